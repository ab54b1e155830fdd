"""From a chat request's body to its answer, whole or as chunks."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from operator import attrgetter
from typing import Any

import msgspec

from api import stored
from api.chat_completions.messages import screened_text, template_messages
from api.chat_completions.prompting import prompt_options
from api.chat_completions.rich import RichStream, finish_reason_of, has_called, message_json
from api.chat_completions.tools import choice_of, parsing_of, tools_of
from api.chat_completions.wire import (
    ChatRequest,
    ChunkWriter,
    decode,
    logprobs_of,
    to_json,
    usage_of,
)
from api.choices import Choice, Recorder, gather_choices
from api.controls import DEFAULT, Controls
from api.errors import decoded
from api.gateway import Gateway
from api.parameters import output_limit, refuse, sampling_of, tier_name, tier_of
from api.plan import Plan
from api.questions import question_of
from api.resolve import resolve, stands_in_for
from api.run import Run
from inference.answers.models import StoredAnswer
from inference.errors import InvalidRequest
from inference.models import Model
from inference.registry import Served
from inference.wire import Logprob, Parsing
from tenants.principal import Principal

ENDPOINT = "chat.completions"


class ChatCall:
    """A validated chat request: ``plan`` says what to run, the rest how to answer."""

    def __init__(self, body: ChatRequest, plan: Plan):
        self.plan = plan
        self.is_stream = bool(body.stream)
        options = body.stream_options
        self._with_usage = bool(options and options.include_usage)
        self._with_usage_so_far = bool(
            self._with_usage and options and options.continuous_usage_stats
        )
        self._parsing = plan.sampling.parsing if plan.sampling is not None else None
        self._reasoning_tokens = 0
        self._top_logprobs = (body.top_logprobs or 0) if body.logprobs else None
        self._id = f"chatcmpl-{plan.request_id}"
        self._created = int(time.time())
        self._is_kept = bool(body.store) and stored.may_keep(plan.principal)
        self._body = body

    async def whole(self, run: Run) -> bytes:
        """The ``chat.completion`` object."""
        completion = self._completion(run, await gather_choices(run, self.plan.n))
        if self._body.store:
            await run.settle()
            completion["store"] = self._is_kept and await self._keep(completion)
        return to_json(completion)

    def _completion(self, run: Run, found: list[Choice]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": "chat.completion",
            "created": self._created,
            "model": self.plan.entry.name,
            "choices": [self._choice(index, choice) for index, choice in enumerate(found)],
            "usage": self._usage(run),
            "service_tier": tier_name(self.plan.tier),
            "system_fingerprint": self.plan.candidates[0].fingerprint or None,
        }

    async def _keep(self, completion: dict[str, Any]) -> bool:
        body = self._body
        return await stored.keep(
            self.plan.principal,
            kind=StoredAnswer.Kind.CHAT,
            public_id=self._id,
            model=self.plan.entry.name,
            content={
                "messages": msgspec.to_builtins(body.messages),
                "completion": completion | {"metadata": body.metadata or {}},
            },
            metadata=body.metadata,
        )

    def _choice(self, index: int, choice: Choice) -> dict[str, Any]:
        if choice.message is not None:
            self._reasoning_tokens += choice.message.reasoning_tokens
        reason = finish_reason_of(choice.finish_reason, has_called(choice.message), self._is_named)
        return {
            "index": index,
            "message": message_json(choice),
            "logprobs": self._logprobs(choice.logprobs),
            "finish_reason": reason,
        }

    async def chunks(self, run: Run) -> AsyncIterator[list[bytes]]:
        """``chat.completion.chunk`` objects; those of one list belong in one write."""
        plan = self.plan
        writer = ChunkWriter(
            self._id,
            self._created,
            plan.entry.name,
            self._with_usage,
            tier_name(plan.tier),
            plan.candidates[0].fingerprint,
        )
        recorder = Recorder(run, plan.n) if self._is_kept else None
        if self._parsing is not None or self._with_usage_so_far:
            async for rich in self._rich_chunks(run, writer, recorder):
                yield rich
            return
        if run.wire is not None and self._top_logprobs is None and recorder is None:
            run.divert(writer.texts(0, run.wire.write_now))
        started: set[int] = set()
        finished = 0
        ready: list[bytes] = []
        async for part in (recorder or run).parts():
            index, output = part.index, part.output
            ready = []
            if index not in started:
                started.add(index)
                ready.append(writer.role(index))
            if output.text or output.logprobs:
                ready.append(writer.text(index, output.text, self._logprobs(output.logprobs)))
            if output.finish_reason:
                ready.append(writer.finish(index, output.finish_reason))
                finished += 1
            if ready and finished < self.plan.n:
                yield ready
        await run.settle()
        if recorder is not None:
            await self._keep(self._completion(run, recorder.choices))
        if self._with_usage:
            ready.append(writer.usage(self._usage(run)))
        yield ready

    async def _rich_chunks(
        self, run: Run, writer: ChunkWriter, recorder: Recorder | None
    ) -> AsyncIterator[list[bytes]]:
        def usage(completion: int, reasoning: int) -> dict[str, Any]:
            return usage_of(self.plan.prompt_tokens, run.cached_tokens, completion, reasoning)

        stream = RichStream(
            writer,
            self.plan.n,
            is_named=self._is_named,
            logprobs_json=self._logprobs,
            usage=usage if self._with_usage_so_far else None,
        )
        async for ready in stream.chunks(recorder or run):
            yield ready
        await run.settle()
        if recorder is not None:
            await self._keep(self._completion(run, recorder.choices))
        self._reasoning_tokens = stream.reasoning_tokens
        if self._with_usage:
            stream.last.append(writer.usage(self._usage(run)))
        yield stream.last

    @property
    def _is_named(self) -> bool:
        return self._parsing is not None and self._parsing.tool_choice == "named"

    def _logprobs(self, logprobs: list[Logprob] | None) -> dict[str, Any] | None:
        # Tokens of reasoning that the client does not want to see are in them too.
        is_hidden = self._parsing is not None and not self._parsing.include_reasoning
        if self._top_logprobs is None or is_hidden:
            return None
        return logprobs_of(logprobs, self._top_logprobs)

    def _usage(self, run: Run) -> dict[str, Any]:
        return usage_of(
            self.plan.prompt_tokens,
            run.cached_tokens,
            run.completion_tokens,
            self._reasoning_tokens,
        )


async def prepare(
    gateway: Gateway,
    principal: Principal,
    raw: bytes,
    request_id: str,
    started_at: float,
    controls: Controls = DEFAULT,
) -> ChatCall:
    """Steps 2 to 4: validate, resolve, count."""
    body = decoded(decode, raw)
    return ChatCall(body, await plan_of(gateway, principal, body, request_id, started_at, controls))


async def plan_of(
    gateway: Gateway,
    principal: Principal,
    body: ChatRequest,
    request_id: str,
    started_at: float,
    controls: Controls,
    *,
    endpoint: str = ENDPOINT,
    fits_context: bool = False,
) -> Plan:
    """What a chat in any API's words runs, once it is a ``ChatRequest``.

    With ``fits_context`` an answer that would not fit beside its prompt is made to end where
    the context does, in place of being refused.
    """
    _refuse_unsupported(body)
    tools = tools_of(body.tools)
    choice = choice_of(body.tool_choice, tools)
    tier = tier_of(body.service_tier, principal)
    entry, candidates = resolve(gateway, body.model, Model.Kind.CHAT, principal, tier, controls)
    served = candidates[0]
    messages = template_messages(body.messages)
    options = prompt_options(body, tools)
    prompt_ids = await served.renderer.encode_chat(
        messages, scope=principal.organization, limit_tokens=served.max_context_tokens, **options
    )
    asked = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    if fits_context and asked is not None:
        asked = min(asked, max(1, served.max_context_tokens - len(prompt_ids)))
    param = "max_tokens" if body.max_completion_tokens is None else "max_completion_tokens"
    max_tokens = output_limit(asked, len(prompt_ids), served, param, "messages")
    if not served.reasoning_parser and body.reasoning_effort not in (None, "none"):
        refuse(reasoning_effort=body.reasoning_effort)
    parsing = None
    if tools or served.reasoning_parser:
        parsing = _parsing(body, served, tools, choice, options)
    sampling = sampling_of(body, max_tokens, served, _wanted_logprobs(body), parsing)
    return Plan(
        request_id=request_id,
        endpoint=endpoint,
        principal=principal,
        entry=entry,
        candidates=candidates,
        prompts=[prompt_ids],
        sampling=sampling,
        n=body.n or 1,
        screened_text=screened_text(messages),
        has_output_limit=asked is not None,
        cache_ttl_s=principal.response_cache_ttl_s,
        question=None
        if principal.semantic_cache == "off"
        else question_of(body, sampling, principal, controls),
        tier=tier,
        controls=controls,
        stands_in_for=stands_in_for(gateway, body.model, entry),
        started_at=started_at,
    )


def _wanted_logprobs(body: ChatRequest) -> int | None:
    if not body.logprobs:
        if body.top_logprobs is not None:
            raise InvalidRequest(
                "'top_logprobs' needs 'logprobs' to be true.", param="top_logprobs"
            )
        return None
    return body.top_logprobs or 0


def _parsing(
    body: ChatRequest,
    served: Served,
    tools: list[dict[str, Any]],
    choice: tuple[str, str],
    options: dict[str, Any],
) -> Parsing | None:
    return parsing_of(
        served,
        tools,
        choice,
        parallel_tool_calls=body.parallel_tool_calls is not False,
        include_reasoning=body.include_reasoning is not False,
        # Documents are for the template alone.
        template_kwargs={
            name: value
            for name, value in options.get("variables", {}).items()
            if name != "documents"
        },
        is_streamed=bool(body.stream),
        past_tool_calls=sum(len(message.tool_calls or ()) for message in body.messages),
    )


def _refuse_unsupported(body: ChatRequest) -> None:
    if any(_UNSUPPORTED(body)):
        refuse(
            functions=body.functions,
            function_call=body.function_call,
            audio=body.audio,
            modalities=None if body.modalities == ["text"] else body.modalities,
            prediction=body.prediction,
            verbosity=None if body.verbosity == "medium" else body.verbosity,
            web_search_options=body.web_search_options,
            moderation=body.moderation,
            prompt_cache_options=body.prompt_cache_options,
            chat_template=body.chat_template,
        )


_UNSUPPORTED = attrgetter(
    "functions", "function_call", "audio", "modalities", "prediction", "verbosity",
    "web_search_options", "moderation", "prompt_cache_options", "chat_template",
)  # fmt: skip
