"""One inference request from admission to settlement: the order of design.md section 4.

A handler authenticates, validates and counts, then opens a ``Run``. Leaving the
run settles it exactly once, whatever happened: finished, refused by the engine,
blocked, or left by its client.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Protocol

import msgspec
from django.conf import settings

from api.caching import CacheUse
from api.gateway import Gateway
from api.http import Wire
from api.plan import Plan
from billing.usage import UsageReport
from inference import metrics, screening
from inference.answer_screening import AnswerScreen
from inference.dispatch import Job, Output, Sequence
from inference.errors import ContentBlocked, InferenceError
from inference.holds import HoldNote, encode_note
from inference.output_estimate import UNKNOWN_TOKENS
from inference.registry import Served
from inference.response_cache import CachedChoice
from inference.wire import Delta, MessagePart, Sampling
from tenants.errors import RateHeaders
from tenants.principal import key_of

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Part:
    """Some output of choice ``index``, ready for the client."""

    index: int
    output: Output


class Bill(Protocol):
    """Who may say that a run is not to be billed, just before it is settled."""

    log_id: str

    async def judge(self, report: UsageReport) -> UsageReport: ...


class Run:
    """``async with Run(gateway, plan) as run``, then iterate ``run.parts()``."""

    def __init__(self, gateway: Gateway, plan: Plan, bill: Bill | None = None):
        self.plan = plan
        self._bill = bill
        self._gateway = gateway
        self._sequences: list[Sequence] = []
        self._screens: list[AnswerScreen] = []
        self._flags: list[str] = []
        self._cache = CacheUse(gateway, plan)
        self._texts: list[list[str]] = []
        self._messages: dict[int, MessagePart] = {}
        self._finish_reasons: dict[int, str] = {}
        self._status = "failed"
        self.rate_headers: RateHeaders = []
        self.admitted_at = time.time()
        self._is_settled = False
        self.wire: Wire | None = None  # to the client, where the server can do more than ASGI

    # --- Opening: admit, screen, cache, dispatch ------------------------------------

    async def __aenter__(self) -> Run:
        await self._admit()
        try:
            self._screen_input()
            await self._cache.look()
            if self._cache.answer is None:
                self._dispatch()
        except BaseException:
            await self._close()
            raise
        return self

    async def _admit(self) -> None:
        plan, principal, gateway = self.plan, self.plan.principal, self._gateway
        model, most_output = plan.entry.name, plan.most_output_tokens
        note = HoldNote(
            gateway.name,
            principal.organization,
            principal.project,
            principal.api_key,
            model,
            plan.endpoint,
            self.admitted_at,
            plan.tier,
            "" if self._bill is None else self._bill.log_id,
            gateway.settlement.bills_with_result,
        )
        hold = await gateway.admission.admit(
            principal,
            plan.request_id,
            model=model,
            expected_tokens=plan.prompt_tokens + self._expected_output_tokens(),
            most_tokens=plan.prompt_tokens + most_output,
            most_cost_micros=gateway.pricebook.most_cost_micros(
                model, plan.prompt_tokens, most_output, self.admitted_at, plan.tier
            ),
            note=encode_note(note),
            counts_rates=plan.tier != "batch",
        )
        self.rate_headers = hold.headers

    def _expected_output_tokens(self) -> int:
        """What token rates are charged until the answer is there."""
        plan = self.plan
        if plan.sampling is None:
            return 0
        estimate = self._gateway.output_estimate.tokens(
            plan.principal.organization, plan.principal.api_key, plan.entry.name
        )
        if estimate is None:  # nothing is known of this key but what it asks for
            estimate = plan.sampling.max_tokens if plan.has_output_limit else UNKNOWN_TOKENS
        return min(plan.sampling.max_tokens, estimate) * plan.answers

    def _screen_input(self) -> None:
        policy = self.plan.principal.screening_policy
        if policy == "allow" or not self.plan.screened_text:
            return
        self._flags = screening.find(self.plan.screened_text)
        if not self._flags:
            return
        for category in self._flags:
            metrics.SCREENED.labels(category, policy).inc()
        if policy == "block":
            self._status = "blocked"
            raise ContentBlocked(
                f"The request contains {', '.join(self._flags)}, which your organization's "
                "policy does not allow."
            )

    def _dispatch(self) -> None:
        plan, principal = self.plan, self.plan.principal
        salt = cache_salt(principal.organization)
        for prompt_index, prompt in enumerate(plan.prompts):
            for choice in range(plan.n):
                job = Job(
                    request_id=f"{plan.request_id}/{prompt_index}.{choice}",
                    organization=principal.organization,
                    weight=principal.fair_share_weight,
                    prompt_ids=prompt,
                    sampling=_seeded(plan.sampling, choice),
                    cache_salt=salt,
                    candidates=plan.candidates,
                    region=principal.region,
                    must_stay_in_region=principal.data_residency,
                    tier=plan.tier,
                    pair_at=plan.pairs_at[prompt_index] if plan.pairs_at else 0,
                )
                self._sequences.append(self._gateway.dispatcher.submit(job))
                self._screens.append(AnswerScreen(principal.screening_policy))
                self._texts.append([])
        metrics.OVERHEAD.observe(time.monotonic() - plan.started_at)

    # --- Running -----------------------------------------------------------------------

    def wait_for_all(self) -> None:
        """The caller sends nothing before the end: it need not be woken for each token."""
        for sequence, screen in zip(self._sequences, self._screens, strict=True):
            # One that may end an answer looks at it while it is made.
            sequence.waits_for_all = not screen.holds_back

    def divert(self, write: Callable[[str], bool]) -> None:
        """Give the text of a stream to ``write`` as it comes, without waking the caller; what
        it does not take, and whatever is more than text, still comes by ``parts``."""
        if len(self._sequences) != 1 or self._screens[0].holds_back:
            return
        screen = self._screens[0]
        texts = self._texts[0] if self._cache.wants_answer else None

        def take(delta: Delta) -> bool:
            if delta.logprobs or delta.message is not None or delta.prompt_logprobs:
                return False
            if delta.text and not write(delta.text):
                return False
            screen.note(delta.text)
            if texts is not None:
                texts.append(delta.text)
            return True

        self._sequences[0].take = take

    def parts(self) -> AsyncIterator[Part]:
        """Output as it comes; each choice's last part has a ``finish_reason``."""
        # No generator around the one that does the work: a layer is 1 µs for each token.
        if self._cache.answer is not None:
            return self._replay(self._cache.answer.choices)
        if len(self._sequences) == 1:
            return self._follow(0)
        return self._follow_all()

    async def _replay(self, choices: list[CachedChoice]) -> AsyncIterator[Part]:
        for index, choice in enumerate(choices):
            reason, message = choice.finish_reason, choice.message
            yield Part(index, Output([], choice.text, finish_reason=reason, message=message))
        self._status = "completed"

    async def _follow(self, index: int) -> AsyncIterator[Part]:
        sequence, screen = self._sequences[index], self._screens[index]
        texts = self._texts[index] if self._cache.wants_answer else None
        is_looking, is_done = screen.is_looking, False
        while not is_done:
            output = await sequence.next_output()
            is_done = bool(output.finish_reason)
            if is_looking:
                blocked = screen.feed(output, is_last=is_done)
                if blocked:
                    self._block(blocked)
            if texts is not None:
                texts.append(output.text)
                if (found := output.message) is not None:
                    before = self._messages.get(index)
                    self._messages[index] = before.plus(found) if before else found
            if is_done:
                self._finish(index, output.finish_reason)
                yield Part(index, output)
            elif output.text or output.token_ids:
                yield Part(index, output)

    def _finish(self, index: int, reason: str) -> None:
        self._finish_reasons[index] = reason
        if len(self._finish_reasons) == len(self._sequences):
            self._status = "completed"

    async def _follow_all(self) -> AsyncIterator[Part]:
        """Parts of several sequences in the order in which they come."""
        queue: asyncio.Queue[Part | BaseException | None] = asyncio.Queue()

        async def pump(index: int) -> None:
            try:
                async for part in self._follow(index):
                    queue.put_nowait(part)
                queue.put_nowait(None)
            except InferenceError as error:
                queue.put_nowait(error)

        tasks = [asyncio.create_task(pump(index)) for index in range(len(self._sequences))]
        try:
            running = len(tasks)
            while running:
                item = await queue.get()
                if item is None:
                    running -= 1
                elif isinstance(item, BaseException):
                    raise item
                else:
                    yield item
        finally:
            for task in tasks:
                task.cancel()

    def _block(self, categories: list[str]) -> None:
        self._status = "blocked"
        self._flags += [category for category in categories if category not in self._flags]
        for category in categories:
            metrics.SCREENED.labels(category, "block").inc()
        raise ContentBlocked(
            f"The answer was ended: it contained {', '.join(categories)}, which your "
            "organization's policy does not allow."
        )

    # --- What was used -----------------------------------------------------------------

    def stop_reason(self, index: int) -> int | str | None:
        """The stop string or token that ended a choice, if one of the request's did."""
        if (cached := self._cache.answer) is not None:
            return cached.choices[index].stop_reason
        return self._sequences[index].stop_reason

    @property
    def completion_tokens(self) -> int:
        if (cached := self._cache.answer) is not None:
            return sum(choice.tokens for choice in cached.choices)
        return sum(len(sequence.output_ids) for sequence in self._sequences)

    @property
    def cached_tokens(self) -> int:
        if self._cache.answer is not None:
            return self.plan.prompt_tokens
        # Choices of one prompt share it; the prompt is billed, and cached, once.
        firsts = self._sequences[:: self.plan.n]
        return sum(sequence.cached_tokens for sequence in firsts)

    @property
    def headers(self) -> RateHeaders:
        """Rate limits, what answered, and how: for the response's head."""
        plan = self.plan
        headers = [
            *self.rate_headers,
            (b"x-sluice-model-version", self._served().version_label.encode()),
            *self._cache.headers,
        ]
        if plan.stands_in_for:
            headers.append((b"x-sluice-model-fallback", plan.stands_in_for.encode()))
        if plan.controls.is_resumable:  # asked for, and could not be had
            headers.append((b"x-sluice-resumable", b"false"))
        if plan.is_explained:
            headers += self._explanation()
        if settings.ENGINE == "simulated":
            headers.append((b"x-sluice-engine", b"simulated"))
        return headers

    def _explanation(self) -> RateHeaders:
        """Where each sequence is now, and how the first came there."""
        names = ",".join(sequence.replica for sequence in self._sequences)
        headers = [(b"x-sluice-replica", names.encode())]
        if self._sequences and (decision := self._sequences[0].decision) is not None:
            headers.append((b"x-sluice-routing", decision.line().encode()))
        return headers

    def _served(self) -> Served:
        for sequence in self._sequences:
            if sequence.served is not None:
                return sequence.served
        return self.plan.candidates[0]

    # --- Closing: settle once -------------------------------------------------------------

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            self._status = "cancelled"
        await self.settle()

    async def settle(self) -> None:
        """Settle now, before the answer's last byte: a client that sees its answer end
        may start the next request at once and must find its place free."""
        if not self._is_settled:
            await self._close()

    async def _close(self) -> None:
        self._is_settled = True
        for sequence in self._sequences:
            self._gateway.dispatcher.cancel(sequence)
        for screen in self._screens:
            for category in screen.findings():
                if category not in self._flags:
                    self._flags.append(category)
                    metrics.SCREENED.labels(category, "flag").inc()
        self._observe()
        self._learn()
        report = self._report()
        if self._bill is not None:
            report = await self._bill.judge(report)
        if self._gateway.cache_analysis.is_on:
            self._note(report)
        try:
            await self._gateway.settlement.settle(report)
        finally:
            if self._status == "completed" and self._cache.wants_answer:
                await self._cache.keep(self._choices(), self.admitted_at)
            else:
                await self._cache.leave()

    def _learn(self) -> None:
        plan = self.plan
        if plan.answers and self._status != "failed":
            tokens = self.completion_tokens // plan.answers
            principal = plan.principal
            self._gateway.output_estimate.learn(principal.api_key, plan.entry.name, tokens)

    def _note(self, report: UsageReport) -> None:
        """For the estimate of what caching would save: whole answers only."""
        plan = self.plan
        if self._status == "completed" and plan.sampling is not None:
            self._gateway.cache_analysis.note(
                report,
                plan.candidates[0].version,
                plan.prompts,
                plan.sampling,
                plan.n,
                plan.screened_text,
            )

    def _choices(self) -> list[CachedChoice]:
        found = zip(self._texts, self._sequences, strict=True)
        return [
            CachedChoice(
                "".join(texts),
                len(sequence.output_ids),
                self._finish_reasons[index],
                self._messages.get(index),
                sequence.stop_reason,
            )
            for index, (texts, sequence) in enumerate(found)
        ]

    def _report(self) -> UsageReport:
        plan, principal = self.plan, self.plan.principal
        completion = self.completion_tokens
        # Nothing came out, or the platform failed: nothing is billed.
        is_free = self._status == "failed" or (
            plan.sampling is not None and completion == 0 and self._status != "completed"
        )
        first = self._first_output_s()
        return UsageReport(
            request_id=plan.request_id,
            organization=principal.organization,
            project=principal.project,
            api_key=key_of(principal.api_key),
            model=plan.entry.name,
            endpoint=plan.endpoint,
            status=self._status,
            source="gateway",
            prompt_tokens=0 if is_free else plan.prompt_tokens,
            cached_tokens=0 if is_free else self.cached_tokens,
            completion_tokens=0 if is_free else completion,
            started_at=self.admitted_at,
            time_to_first_token_ms=None if first is None else int(first * 1000),
            duration_ms=int((time.monotonic() - plan.started_at) * 1000),
            replica=self._sequences[0].replica if self._sequences else "",
            cache_hit=self._cache.answer is not None,
            flags=self._flags,
            engine_us=sum(sequence.engine_us for sequence in self._sequences),
            tier=plan.tier,
        )

    def _first_output_s(self) -> float | None:
        firsts = [s.first_output_at for s in self._sequences if s.first_output_at is not None]
        return min(firsts) - self.plan.started_at if firsts else None

    def _observe(self) -> None:
        plan, model = self.plan, self.plan.entry.name
        duration = time.monotonic() - plan.started_at
        error = "" if self._status == "completed" else self._status
        observed = metrics.of_request(plan.endpoint, model, error)
        observed.duration.observe(duration)
        first = self._first_output_s()
        completion = self.completion_tokens
        observed.input_tokens.observe(plan.prompt_tokens)
        observed.output_tokens.observe(completion)
        if first is not None:
            observed.first_token.observe(first)
            if completion > 1:
                observed.per_output_token.observe((duration - first) / (completion - 1))


@lru_cache(maxsize=65_536)
def cache_salt(organization: int) -> str:
    """Separates KV-cache blocks of organizations inside one engine."""
    return hmac.digest(
        settings.CACHE_SALT_SECRET.encode(), b"kv:%d" % organization, "sha256"
    ).hex()[:32]


def _seeded(sampling: Sampling | None, choice: int) -> Sampling | None:
    """Choices of one seeded request differ, and differ the same way every time."""
    if sampling is None or sampling.seed is None or choice == 0:
        return sampling
    return msgspec.structs.replace(sampling, seed=(sampling.seed + choice) % 2**63)
