"""A chat answer taken apart by vLLM's own parsers, as its server does it.

Which parsers a model has is a fact of its version (``tool_parser``,
``reasoning_parser``). They may also change the request: a grammar for calls that must
be made, special tokens kept. Here a request is the part of one that parsers look at.
"""

from __future__ import annotations

from typing import Any

import msgspec

from inference.engine_protocol import EngineSpec
from inference.wire import Delta, MessagePart, Parsing, Sampling, Submission, ToolCallPart


class ChatParsers:
    """What one engine's model needs; raises TypeError if vLLM has no such parser for it."""

    def __init__(self, spec: EngineSpec, tokenizer: Any, model_config: Any):
        self._tokenizer, self._model_config, self._class = tokenizer, model_config, None
        if not (spec.tool_parser or spec.reasoning_parser):
            return
        from vllm.parser import ParserManager

        self._class = ParserManager.get_parser(
            tool_parser_name=spec.tool_parser or None,
            reasoning_parser_name=spec.reasoning_parser or None,
            enable_auto_tools=bool(spec.tool_parser),
            model_name=spec.path,
            tokenizer=tokenizer,
        )

    def open(self, submission: Submission, sampling: Sampling, parsing: Parsing) -> ChatParse:
        if self._class is None:
            raise ValueError("This model has no parser of tool calls or reasoning.")
        request = _request_of(sampling, parsing)
        adjusted = self._make(request, parsing).adjust_request(request)
        return ChatParse(submission, sampling, adjusted, self._make(adjusted, parsing))

    def _make(self, request: Any, parsing: Parsing) -> Any:
        assert self._class is not None
        return self._class(
            self._tokenizer,
            request.tools,
            chat_template_kwargs=parsing.template_kwargs,
            model_config=self._model_config,
        )


class ChatParse:
    """One sequence's text on its way through a parser."""

    def __init__(self, submission: Submission, sampling: Sampling, request: Any, parser: Any):
        self._request, self._parser = request, parser
        self._is_streamed = bool(request.stream)
        offset = submission.offset
        self._prompt_ids = submission.prompt_ids[: len(submission.prompt_ids) - offset]
        self._text = ""
        self._ids: list[int] = []
        self.structured = request.extract_structured_outputs()
        self.skip_special_tokens = bool(request.skip_special_tokens)

    @property
    def reasoning_options(self) -> dict[str, Any]:
        """For ``add_request``: from where on the engine is to hold to a grammar."""
        if self._parser.reasoning_parser is None:
            return {}
        ended = self._request.resolve_reasoning_ended(self._parser, self._prompt_ids)
        kwargs = {"chat_template_kwargs": self._parser_kwargs}
        return {"reasoning_ended": ended, "reasoning_parser_kwargs": kwargs}

    @property
    def _parser_kwargs(self) -> dict[str, Any]:
        return dict(self._request.chat_template_kwargs or {})

    def replay(self, token_id: int, text: str) -> None:
        """A token that another engine emitted: its client has what comes of it."""
        self._take(text, [token_id], finished=False)

    def apply(self, delta: Delta) -> None:
        """Take the delta's text apart: its text becomes content, the rest its message."""
        finished = bool(delta.finish_reason)
        content, message = self._take(delta.text, delta.token_ids, finished=finished)
        delta.text = content
        if finished and (count := self._parser.count_reasoning_tokens(tuple(self._ids))):
            message = message or MessagePart()
            message.reasoning_tokens = count
        delta.message = message

    def _take(self, text: str, ids: list[int], *, finished: bool) -> tuple[str, MessagePart | None]:
        self._ids += ids
        if not self._is_streamed:
            self._text += text
            return self._whole() if finished else ("", None)
        found = self._parser.parse_delta(
            delta_text=text,
            delta_token_ids=list(ids),
            request=self._request,
            prompt_token_ids=self._prompt_ids,
            finished=finished,
        )
        if found is None:
            return "", None
        calls = [_call_part(call) for call in self._allowed(found.tool_calls or [])]
        if not calls and not found.reasoning:
            return found.content or "", None
        return found.content or "", MessagePart(found.reasoning or "", calls)

    def _whole(self) -> tuple[str, MessagePart | None]:
        reasoning, content, found = self._parser.parse(
            self._text, self._request, enable_auto_tools=True, model_output_token_ids=self._ids
        )
        if not self._request.include_reasoning:
            reasoning = None
        if self._request.parallel_tool_calls is False:
            found = (found or [])[:1]
        calls = [
            ToolCallPart(index, call.id or _new_id(), call.name, call.arguments)
            for index, call in enumerate(found or [])
        ]
        if not calls and not reasoning:
            return content or "", None
        return content or "", MessagePart(reasoning or "", calls)

    def _allowed(self, calls: list[Any]) -> list[Any]:
        if self._request.parallel_tool_calls is False:
            return [call for call in calls if call.index == 0]
        return calls


def _call_part(call: Any) -> ToolCallPart:
    function = call.function
    name, arguments = "", ""
    if function is not None:
        name, arguments = function.name or "", function.arguments or ""
    return ToolCallPart(call.index, call.id or "", name, arguments)


def _new_id() -> str:
    from vllm.renderers.chat_utils import make_tool_call_id

    return str(make_tool_call_id())


def _request_of(sampling: Sampling, parsing: Parsing) -> Any:
    """As much of the client's request as parsers read."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    choice: Any = parsing.tool_choice
    if choice == "named":
        choice = {"type": "function", "function": {"name": parsing.named}}
    # Only how many calls there were is read of the conversation.
    past = [_CALL] * parsing.past_tool_calls
    last = {"role": "assistant", "tool_calls": past} if past else {"role": "user", "content": ""}
    return ChatCompletionRequest.model_validate(
        {
            "messages": [last],
            "tools": parsing.tools or None,
            "tool_choice": choice if parsing.tools else "none",
            "parallel_tool_calls": parsing.parallel_tool_calls,
            "include_reasoning": parsing.include_reasoning,
            "chat_template_kwargs": parsing.template_kwargs or None,
            "structured_outputs": sampling.structured,
            "skip_special_tokens": sampling.skip_special_tokens,
            "stream": parsing.is_streamed,
        }
    )


_CALL = {"id": "past", "type": "function", "function": {"name": "past", "arguments": "{}"}}


def adjusted_sampling(sampling: Sampling, chat: ChatParse) -> Sampling:
    """With what the parser asked for; its grammar is ``chat.structured``."""
    return msgspec.structs.replace(
        sampling, structured=None, skip_special_tokens=chat.skip_special_tokens
    )
