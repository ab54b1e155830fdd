"""From a chat request's body to its answer, whole or as chunks."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from api.chat_completions.wire import (
    ChatRequest,
    ChunkWriter,
    Message,
    decode,
    logprobs_of,
    to_json,
    usage_of,
)
from api.choices import gather_choices
from api.controls import DEFAULT, Controls
from api.errors import malformed
from api.gateway import Gateway
from api.parameters import output_limit, refuse, sampling_of, tier_name, tier_of
from api.plan import Plan
from api.resolve import resolve, stands_in_for
from api.run import Run
from inference.errors import InvalidRequest
from inference.models import Model
from inference.wire import Logprob
from tenants.principal import Principal

ENDPOINT = "chat.completions"


class ChatCall:
    """A validated chat request: ``plan`` says what to run, the rest how to answer."""

    def __init__(self, body: ChatRequest, plan: Plan):
        self.plan = plan
        self.is_stream = bool(body.stream)
        self._with_usage = bool(body.stream_options and body.stream_options.include_usage)
        self._top_logprobs = (body.top_logprobs or 0) if body.logprobs else None
        self._id = f"chatcmpl-{plan.request_id}"
        self._created = int(time.time())

    async def whole(self, run: Run) -> bytes:
        """The ``chat.completion`` object."""
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": choice.text, "refusal": None},
                "logprobs": self._logprobs(choice.logprobs),
                "finish_reason": choice.finish_reason,
            }
            for index, choice in enumerate(await gather_choices(run, self.plan.n))
        ]
        return to_json(
            {
                "id": self._id,
                "object": "chat.completion",
                "created": self._created,
                "model": self.plan.entry.name,
                "choices": choices,
                "usage": self._usage(run),
                "service_tier": tier_name(self.plan.tier),
            }
        )

    async def chunks(self, run: Run) -> AsyncIterator[list[bytes]]:
        """``chat.completion.chunk`` objects; those of one list belong in one write."""
        plan = self.plan
        writer = ChunkWriter(
            self._id, self._created, plan.entry.name, self._with_usage, tier_name(plan.tier)
        )
        started: set[int] = set()
        finished = 0
        ready: list[bytes] = []
        async for part in run.parts():
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
        if self._with_usage:
            ready.append(writer.usage(self._usage(run)))
        yield ready

    def _logprobs(self, logprobs: list[Logprob] | None) -> dict[str, Any] | None:
        if self._top_logprobs is None:
            return None
        return logprobs_of(logprobs, self._top_logprobs)

    def _usage(self, run: Run) -> dict[str, Any]:
        return usage_of(self.plan.prompt_tokens, run.cached_tokens, run.completion_tokens)


async def prepare(
    gateway: Gateway,
    principal: Principal,
    raw: bytes,
    request_id: str,
    started_at: float,
    controls: Controls = DEFAULT,
) -> ChatCall:
    """Steps 2 to 4: validate, resolve, count."""
    try:
        body = decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(error) from None
    _refuse_unsupported(body)
    tier = tier_of(body.service_tier, principal)
    entry, candidates = resolve(gateway, body.model, Model.Kind.CHAT, principal, tier, controls)
    served = candidates[0]
    messages = [_template_message(index, message) for index, message in enumerate(body.messages)]
    prompt_ids = await served.renderer.encode_chat(
        messages, scope=principal.organization, limit_tokens=served.max_context_tokens
    )
    asked = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    param = "max_tokens" if body.max_completion_tokens is None else "max_completion_tokens"
    max_tokens = output_limit(asked, len(prompt_ids), served, param, "messages")
    plan = Plan(
        request_id=request_id,
        endpoint=ENDPOINT,
        principal=principal,
        entry=entry,
        candidates=candidates,
        prompts=[prompt_ids],
        sampling=sampling_of(body, max_tokens, served, _wanted_logprobs(body)),
        n=body.n or 1,
        screened_text="\n".join(str(message["content"]) for message in messages),
        has_output_limit=asked is not None,
        cache_ttl_s=principal.response_cache_ttl_s,
        tier=tier,
        controls=controls,
        stands_in_for=stands_in_for(gateway, body.model, entry),
        started_at=started_at,
    )
    return ChatCall(body, plan)


def _wanted_logprobs(body: ChatRequest) -> int | None:
    if not body.logprobs:
        if body.top_logprobs is not None:
            raise InvalidRequest(
                "'top_logprobs' needs 'logprobs' to be true.", param="top_logprobs"
            )
        return None
    return body.top_logprobs or 0


def _refuse_unsupported(body: ChatRequest) -> None:
    refuse(
        tools=body.tools,
        tool_choice=None if body.tool_choice in (None, "none", "auto") else body.tool_choice,
        functions=body.functions,
        function_call=body.function_call,
        audio=body.audio,
        modalities=None if body.modalities in (None, ["text"]) else body.modalities,
        prediction=body.prediction,
        reasoning_effort=body.reasoning_effort,
        verbosity=body.verbosity,
        web_search_options=body.web_search_options,
        moderation=body.moderation,
    )
    if body.response_format is not None and body.response_format.type != "text":
        refuse(response_format=body.response_format.type)


def _template_message(index: int, message: Message) -> dict[str, Any]:
    """A message as chat templates expect it: plain text content."""
    if message.tool_calls is not None:
        refuse(**{f"messages[{index}].tool_calls": message.tool_calls})
    content = message.content
    if content is None:
        raise InvalidRequest("A message needs content.", param=f"messages[{index}].content")
    if isinstance(content, list):
        content = "".join(part.text for part in content)
    role = "system" if message.role == "developer" else message.role
    return {"role": role, "content": content}
