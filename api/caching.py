"""One request's use of the response cache: asked before it runs, fed when it completed."""

from __future__ import annotations

from api.gateway import Gateway
from api.http import Headers
from api.plan import Plan
from inference.response_cache import CachedAnswer, CachedChoice, is_cacheable, key_of


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

    def _make_key(self) -> str:
        plan = self._plan
        assert plan.sampling is not None
        version = plan.candidates[0].version
        return key_of(plan.principal.organization, version, plan.prompts, plan.sampling, plan.n)

    @property
    def wants_answer(self) -> bool:
        """Whether the run's texts are to be gathered, for others to have."""
        return self.answer is None and (self._is_leader or self._ttl_s > 0)

    async def look(self) -> None:
        if not self._reads:
            self._state = b"bypass" if self._key else b""
            return
        plan = self._plan
        organization, max_age_s = plan.principal.organization, plan.controls.max_age_s
        if self._ttl_s:
            turn = await self._cache.get_or_lead(self._key, organization, max_age_s)
            self.answer, self._is_leader = turn.answer, turn.is_leader
        else:
            self.answer = await self._cache.get(self._key, organization, max_age_s)
        self._state = b"hit" if self.answer is not None else b"miss"

    async def keep(self, choices: list[CachedChoice], began_at: float) -> None:
        plan = self._plan
        answer = CachedAnswer(plan.principal.organization, plan.request_id, began_at, choices)
        self._is_leader = False
        await self._cache.put(self._key, answer, self._ttl_s)

    async def leave(self) -> None:
        """The run gave no answer that others could have."""
        if self._is_leader:
            self._is_leader = False
            await self._cache.give_up(self._key)

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
        return headers
