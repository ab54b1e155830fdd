"""One request's use of the response cache: asked before it runs, fed when it completed."""

from __future__ import annotations

from api.gateway import Gateway
from api.http import Headers
from api.plan import Plan
from inference.response_cache import CachedAnswer, CachedChoice, is_cacheable, key_of
from inference.semantic_cache import DEFAULT_THRESHOLD, Asker, Inquiry, Question


class CacheUse:
    """``look`` before dispatch; then ``keep`` or ``leave``, once, whatever happened."""

    def __init__(self, gateway: Gateway, plan: Plan):
        self._cache = gateway.cache
        self._plan = plan
        self._is_leader = False
        self._state = b""
        self.answer: CachedAnswer | None = None
        controls, sampling = plan.controls, plan.sampling
        is_on = bool(plan.cache_ttl_s) and sampling is not None and is_cacheable(sampling)
        self._reads = is_on and controls.reads_cache
        self._ttl_s = plan.cache_ttl_s if is_on and controls.writes_cache else 0
        if controls.max_age_s is not None:
            self._ttl_s = min(self._ttl_s, controls.max_age_s)
        self._key = self._make_key() if self._reads or self._ttl_s else ""
        self._inquiry = None if plan.question is None else _inquire(gateway, plan, plan.question)
        self._similarity = 0.0

    def _make_key(self) -> str:
        plan = self._plan
        assert plan.sampling is not None
        version = plan.candidates[0].version
        return key_of(plan.principal.organization, version, plan.prompts, plan.sampling, plan.n)

    @property
    def wants_answer(self) -> bool:
        """Whether the run's texts are to be gathered, for others to have."""
        return self.answer is None and (
            self._is_leader or self._ttl_s > 0 or self._inquiry is not None
        )

    async def look(self) -> None:
        if self._reads:
            await self._look_exactly()
        elif self._key:
            self._state = b"bypass"
        if self._inquiry is not None and self.answer is None:
            await self._look_alike(self._inquiry)

    async def _look_exactly(self) -> None:
        plan = self._plan
        organization, max_age_s = plan.principal.organization, plan.controls.max_age_s
        if self._ttl_s:
            turn = await self._cache.get_or_lead(self._key, organization, max_age_s)
            self.answer, self._is_leader = turn.answer, turn.is_leader
        else:
            self.answer = await self._cache.get(self._key, organization, max_age_s)
        self._state = b"hit" if self.answer is not None else b"miss"

    async def _look_alike(self, inquiry: Inquiry) -> None:
        principal, controls = self._plan.principal, self._plan.controls
        if not controls.reads_cache:
            self._state = b"bypass"
            inquiry.begin()  # only to have it ready for keeping
            return
        threshold = principal.semantic_cache_threshold or DEFAULT_THRESHOLD
        match = await inquiry.find(threshold, controls.max_age_s)
        self._state = b"miss"
        if match is not None:
            self._state = b"semantic-hit"
            self.answer, self._similarity = match.answer, match.similarity

    async def keep(self, choices: list[CachedChoice], began_at: float) -> None:
        plan = self._plan
        answer = CachedAnswer(plan.principal.organization, plan.request_id, began_at, choices)
        if self._is_leader or self._ttl_s:
            self._is_leader = False
            await self._cache.put(self._key, answer, self._ttl_s)
        if self._inquiry is not None:
            await self._inquiry.keep(answer, self._semantic_ttl_s)

    @property
    def _semantic_ttl_s(self) -> int:
        controls, ttl_s = self._plan.controls, self._plan.principal.semantic_cache_ttl_s
        if not controls.writes_cache:
            return 0
        return ttl_s if controls.max_age_s is None else min(ttl_s, controls.max_age_s)

    async def leave(self) -> None:
        """The run gave no answer that others could have."""
        if self._is_leader:
            self._is_leader = False
            await self._cache.give_up(self._key)
        if self._inquiry is not None:
            self._inquiry.drop()

    @property
    def headers(self) -> Headers:
        if not self._state:
            return []
        headers = [(b"x-sluice-cache", self._state)]
        if self.answer is not None:
            headers += [
                (b"age", b"%d" % self.answer.age_s),
                (b"x-sluice-cache-source", self.answer.source_request.encode()),
            ]
            if self._similarity:
                headers.append((b"x-sluice-cache-similarity", b"%.3f" % self._similarity))
        return headers


def _inquire(gateway: Gateway, plan: Plan, question: Question) -> Inquiry | None:
    principal = plan.principal
    asker = Asker(
        principal.organization,
        principal.fair_share_weight,
        principal.region,
        principal.data_residency,
    )
    return gateway.semantic_cache.inquire(question, plan.candidates[0].version, asker)
