"""From a completion request's body to its answer, whole or as chunks."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from api.chat_completions.wire import usage_of
from api.choices import gather_choices
from api.completions.wire import (
    MOST_PROMPTS,
    ChunkWriter,
    CompletionRequest,
    LogprobWriter,
    decode,
    to_json,
)
from api.controls import DEFAULT, Controls
from api.errors import malformed
from api.gateway import Gateway
from api.parameters import output_limit, refuse, sampling_of, tier_name, tier_of
from api.plan import Plan
from api.prompts import encode_inputs, split_inputs
from api.resolve import resolve, stands_in_for
from api.run import Run
from inference.models import Model
from tenants.principal import Principal

ENDPOINT = "completions"


class CompletionCall:
    """A validated completion request. Choices are numbered prompt by prompt."""

    def __init__(self, body: CompletionRequest, plan: Plan):
        self.plan = plan
        self.is_stream = bool(body.stream)
        self._with_usage = bool(body.stream_options and body.stream_options.include_usage)
        self._logprobs = body.logprobs
        # OpenAI's object has no such field: only who named a tier hears of it.
        self._tier = {"service_tier": tier_name(plan.tier)} if body.service_tier else {}
        self._id = f"cmpl-{plan.request_id}"
        self._created = int(time.time())
        self._choices = plan.n * len(plan.prompts)

    async def whole(self, run: Run) -> bytes:
        """The ``text_completion`` object."""
        choices = [
            {
                "index": index,
                "text": choice.text,
                "logprobs": None
                if self._logprobs is None
                else LogprobWriter(self._logprobs).write(choice.logprobs),
                "finish_reason": choice.finish_reason,
            }
            for index, choice in enumerate(await gather_choices(run, self._choices))
        ]
        return to_json(
            {
                "id": self._id,
                "object": "text_completion",
                "created": self._created,
                "model": self.plan.entry.name,
                "choices": choices,
                "usage": self._usage(run),
                **self._tier,
            }
        )

    async def chunks(self, run: Run) -> AsyncIterator[list[bytes]]:
        """Chunks as they come; those of one list belong in one write."""
        writer = ChunkWriter(self._id, self._created, self.plan.entry.name, self._with_usage)
        logprobs = [LogprobWriter(self._logprobs or 0) for _ in range(self._choices)]
        finished = 0
        ready: list[bytes] = []
        async for part in run.parts():
            output = part.output
            found: dict[str, Any] | None = None
            if self._logprobs is not None:
                found = logprobs[part.index].write(output.logprobs or [])
            ready = [writer.text(part.index, output.text, found, output.finish_reason)]
            finished += bool(output.finish_reason)
            if finished < self._choices:
                yield ready
        await run.settle()
        if self._with_usage:
            ready.append(writer.usage(self._usage(run)))
        yield ready

    def _usage(self, run: Run) -> dict[str, Any]:
        return usage_of(self.plan.prompt_tokens, run.cached_tokens, run.completion_tokens)


async def prepare(
    gateway: Gateway,
    principal: Principal,
    raw: bytes,
    request_id: str,
    started_at: float,
    controls: Controls = DEFAULT,
) -> CompletionCall:
    """Steps 2 to 4: validate, resolve, count."""
    try:
        body = decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(error) from None
    refuse(echo=body.echo, suffix=body.suffix)
    if body.best_of not in (None, body.n or 1):
        refuse(best_of=body.best_of)
    tier = tier_of(body.service_tier, principal)
    entry, candidates = resolve(gateway, body.model, Model.Kind.CHAT, principal, tier, controls)
    served = candidates[0]
    inputs = split_inputs(body.prompt, "prompt", MOST_PROMPTS)
    prompts = await encode_inputs(inputs, served, principal.organization, "prompt")
    longest = max(map(len, prompts))
    max_tokens = output_limit(
        # OpenAI's default for this endpoint, kept so that clients see no surprise.
        16 if body.max_tokens is None else body.max_tokens,
        longest,
        served,
        "max_tokens",
        "prompt",
    )
    plan = Plan(
        request_id=request_id,
        endpoint=ENDPOINT,
        principal=principal,
        entry=entry,
        candidates=candidates,
        prompts=prompts,
        sampling=sampling_of(body, max_tokens, served, body.logprobs),
        n=body.n or 1,
        screened_text="\n".join(item for item in inputs if isinstance(item, str)),
        has_output_limit=True,
        cache_ttl_s=principal.response_cache_ttl_s,
        tier=tier,
        controls=controls,
        stands_in_for=stands_in_for(gateway, body.model, entry),
        started_at=started_at,
    )
    return CompletionCall(body, plan)
