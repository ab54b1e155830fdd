"""From a Messages request to its answer: planned, run and billed as the chat that it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from api.chat_completions import handler as chat
from api.chat_completions.messages import template_messages
from api.chat_completions.prompting import prompt_options
from api.chat_completions.tools import choice_of, tools_of
from api.chat_completions.wire import ChatRequest
from api.choices import gather_choices
from api.controls import DEFAULT, Controls
from api.counting import MOST_COUNTED_TOKENS, Counting
from api.errors import decoded
from api.gateway import Gateway
from api.messages.answers import EventWriter, content_of, stop_of, tier_of, usage_of
from api.messages.conversation import chat_request, check_supported, prompt_fields
from api.messages.wire import MessagesRequest, decode, decode_count
from api.parameters import refuse
from api.plan import Plan
from api.resolve import resolve
from api.run import Run
from inference.models import Model
from tenants.principal import Principal

ENDPOINT = "messages"


class MessageCall:
    """A validated request: ``plan`` says what to run, the rest how to answer."""

    def __init__(self, body: MessagesRequest, plan: Plan):
        self.plan = plan
        self.is_stream = bool(body.stream)
        assert plan.sampling is not None
        # The context had no room for as much as was asked for.
        self._fills_context = plan.sampling.max_tokens < body.max_tokens

    async def whole(self, run: Run) -> bytes:
        """The ``message`` object."""
        (choice,) = await gather_choices(run, 1)
        content = content_of(choice)
        has_called = any(block["type"] == "tool_use" for block in content)
        reasoning = choice.message.reasoning_tokens if choice.message is not None else 0
        reason, sequence = self._stop(run, choice.finish_reason, has_called)
        return msgspec.json.encode(
            {
                **self._message(),
                "content": content,
                "stop_reason": reason,
                "stop_sequence": sequence,
                "usage": {
                    **self._usage(run, run.completion_tokens, reasoning),
                    "service_tier": tier_of(self.plan.tier),
                },
            }
        )

    async def chunks(self, run: Run) -> AsyncIterator[list[bytes]]:
        """Anthropic's events; those of one list belong in one write."""
        writer = EventWriter(self._message(), run.wire.write_now if run.wire else None)
        if run.wire is not None:
            run.divert(writer.take)
        ready: list[bytes] = []
        has_begun, reason = False, ""
        async for part in run.parts():
            ready = [] if has_begun else self._begin(writer, run)
            has_begun, reason = True, part.output.finish_reason
            ready += writer.output(part.output)
            if ready and not reason:
                yield ready
        await run.settle()
        usage = self._usage(run, run.completion_tokens, writer.reasoning_tokens)
        yield ready + writer.end(self._stop(run, reason, writer.has_called), usage)

    def _begin(self, writer: EventWriter, run: Run) -> list[bytes]:
        usage = {**self._usage(run, 0), "service_tier": tier_of(self.plan.tier)}
        return writer.begin(usage)

    def _stop(self, run: Run, reason: str, has_called: bool) -> tuple[str, str | None]:
        matched = run.stop_reason(0)
        return stop_of(reason, matched, has_called=has_called, fills_context=self._fills_context)

    def _message(self) -> dict[str, Any]:
        return {
            "id": f"msg_{self.plan.request_id}",
            "type": "message",
            "role": "assistant",
            "model": self.plan.entry.name,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "container": None,
        }

    def _usage(self, run: Run, completion: int, reasoning: int = 0) -> dict[str, Any]:
        return usage_of(self.plan.prompt_tokens, run.cached_tokens, completion, reasoning)


async def prepare(
    gateway: Gateway,
    principal: Principal,
    raw: bytes,
    request_id: str,
    started_at: float,
    controls: Controls = DEFAULT,
) -> MessageCall:
    """Steps 2 to 4: validate, resolve, count."""
    body = decoded(decode, raw)
    plan = await chat.plan_of(
        gateway,
        principal,
        chat_request(body),
        request_id,
        started_at,
        controls,
        endpoint=ENDPOINT,
        fits_context=True,
    )
    thinking = body.thinking
    if thinking is not None and thinking.type == "enabled":
        # A model that cannot think aloud is not made to by a budget for it.
        refuse(thinking=None if plan.candidates[0].reasoning_parser else thinking.type)
    return MessageCall(body, plan)


def prepare_count(gateway: Gateway, principal: Principal, raw: bytes) -> Counting:
    """How many tokens the prompt of such a request has."""
    body = decoded(decode_count, raw)
    check_supported(body)
    chat_body = ChatRequest(**prompt_fields(body))
    tools = tools_of(chat_body.tools)
    choice_of(chat_body.tool_choice, tools)
    entry, candidates = resolve(gateway, body.model, Model.Kind.CHAT, principal)
    messages, options = template_messages(chat_body.messages), prompt_options(chat_body, tools)

    async def work() -> dict[str, int]:
        ids = await candidates[0].renderer.encode_chat(
            messages,
            scope=principal.organization,
            limit_tokens=MOST_COUNTED_TOKENS,
            **options,
        )
        return {"input_tokens": len(ids)}

    return Counting(entry.name, work)
