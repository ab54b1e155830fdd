"""From a completion request's body to its answer, whole or as chunks."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

from api.chat_completions.wire import usage_of
from api.choices import Choice, gather_choices
from api.completions.echo import Echo, best, candidates_of, check_echo
from api.completions.wire import (
    MOST_PROMPTS,
    ChunkWriter,
    CompletionRequest,
    LogprobWriter,
    decode,
    to_json,
)
from api.controls import DEFAULT, Controls
from api.errors import decoded
from api.gateway import Gateway
from api.parameters import output_limit, refuse, sampling_of, tier_name, tier_of
from api.plan import Plan
from api.prompts import encode_inputs, split_inputs
from api.resolve import resolve, stands_in_for
from api.run import Part, Run
from inference.models import Model
from inference.wire import Logprob
from tenants.principal import Principal

ENDPOINT = "completions"


class CompletionCall:
    """A validated completion request. Choices are numbered prompt by prompt."""

    def __init__(self, body: CompletionRequest, plan: Plan, echo: Echo | None):
        self.plan = plan
        self.is_stream = bool(body.stream)
        options = body.stream_options
        self._with_usage = bool(options and options.include_usage)
        self._with_usage_so_far = bool(
            self._with_usage and options and options.continuous_usage_stats
        )
        self._wants_logprobs = body.logprobs is not None
        self._echo = echo
        self._n = body.n or 1
        # OpenAI's object has no such field: only who named a tier hears of it.
        self._tier = {"service_tier": tier_name(plan.tier)} if body.service_tier else {}
        self._id = f"cmpl-{plan.request_id}"
        self._created = int(time.time())
        self._choices = plan.n * len(plan.prompts)

    async def whole(self, run: Run) -> bytes:
        """The ``text_completion`` object."""
        made = await gather_choices(run, self._choices)
        choices = [
            self._choice(index, choice)
            for index, choice in enumerate(best(made, self.plan.n, self._n))
        ]
        return to_json(
            {
                "id": self._id,
                "object": "text_completion",
                "created": self._created,
                "model": self.plan.entry.name,
                "choices": choices,
                "usage": self._usage(run),
                "system_fingerprint": self.plan.candidates[0].fingerprint or None,
                **self._tier,
            }
        )

    def _choice(self, index: int, choice: Choice) -> dict[str, Any]:
        text = choice.text
        logprobs: list[Logprob | str] = list(choice.logprobs)
        if self._echo is not None:
            prompt = index // self._n
            text = self._echo.text(prompt) + ("" if self._echo.is_all else text)
            before = self._echo.logprobs(prompt, choice.prompt_logprobs)
            logprobs = before + ([] if self._echo.is_all else logprobs)
        return {
            "index": index,
            "text": text,
            "logprobs": LogprobWriter().write(logprobs) if self._wants_logprobs else None,
            "finish_reason": choice.finish_reason,
        }

    async def chunks(self, run: Run) -> AsyncIterator[list[bytes]]:
        """Chunks as they come; those of one list belong in one write."""
        writer = ChunkWriter(
            self._id,
            self._created,
            self.plan.entry.name,
            self._with_usage,
            self.plan.candidates[0].fingerprint,
        )
        logprobs = [LogprobWriter() for _ in range(self._choices)]
        echoed: set[int] = set()
        tokens = [0] * self._choices
        finished = 0
        ready: list[bytes] = []
        async for part in run.parts():
            index, output = part.index, part.output
            text: str = output.text
            scored: list[Logprob | str] = list(output.logprobs or ())
            if self._echo is not None:
                text, scored = self._with_echo(part, echoed, scored)
            found = logprobs[index].write(scored) if self._wants_logprobs else None
            tokens[index] += len(output.token_ids)
            usage = self._usage_so_far(run, tokens[index]) if self._with_usage_so_far else None
            ready = [writer.text(index, text, found, output.finish_reason, usage)]
            finished += bool(output.finish_reason)
            if finished < self._choices:
                yield ready
        await run.settle()
        if self._with_usage:
            ready.append(writer.usage(self._usage(run)))
        yield ready

    def _with_echo(
        self, part: Part, echoed: set[int], scored: list[Logprob | str]
    ) -> tuple[str, list[Logprob | str]]:
        """The part's text and logprobs, behind the prompt's if it is the choice's first."""
        echo, index, output = self._echo, part.index, part.output
        assert echo is not None
        text = "" if echo.is_all else output.text
        scored = [] if echo.is_all else scored
        if index in echoed:
            return text, scored
        echoed.add(index)
        prompt = index // self.plan.n
        return echo.text(prompt) + text, echo.logprobs(prompt, output.prompt_logprobs) + scored

    def _usage_so_far(self, run: Run, completion: int) -> dict[str, Any]:
        return usage_of(self.plan.prompt_tokens, run.cached_tokens, completion)

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
    body = decoded(decode, raw)
    refuse(suffix=body.suffix, store=body.store)
    candidates_each = candidates_of(body)
    tier = tier_of(body.service_tier, principal)
    entry, candidates = resolve(gateway, body.model, Model.Kind.CHAT, principal, tier, controls)
    served = candidates[0]
    inputs = split_inputs(body.prompt, "prompt", MOST_PROMPTS)
    prompts = await encode_inputs(
        inputs, served, principal.organization, "prompt", body.add_special_tokens is not False
    )
    check_echo(body, prompts)
    longest = max(map(len, prompts))
    max_tokens = output_limit(
        # OpenAI's default for this endpoint, kept so that clients see no surprise.
        16 if body.max_tokens is None else max(1, body.max_tokens),
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
        sampling=sampling_of(
            body,
            max_tokens,
            served,
            # The best are told by their logprobs.
            0 if candidates_each > (body.n or 1) and body.logprobs is None else body.logprobs,
            prompt_logprobs=body.logprobs if body.echo else None,
        ),
        n=candidates_each,
        screened_text="\n".join(item for item in inputs if isinstance(item, str)),
        has_output_limit=True,
        cache_ttl_s=principal.response_cache_ttl_s,
        tier=tier,
        controls=controls,
        stands_in_for=stands_in_for(gateway, body.model, entry),
        started_at=started_at,
    )
    echo = None
    if body.echo:
        echo = Echo(inputs, prompts, served.renderer, is_all=body.max_tokens == 0)
    return CompletionCall(body, plan, echo)
