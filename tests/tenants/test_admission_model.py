"""Any sequence of admissions and settlements leaves Redis as a model in Python says.

Redis reads its own clock, so the model keeps what a bucket can hold between the
times before and after each call; sums and places are exact.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import astuple, dataclass, field, fields

import redis
from django.conf import settings as django_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenants.admission import Admission
from tenants.errors import LimitExceeded
from tenants.principal import Limits, Principal
from tenants.redis_link import RedisLink
from tests.tenants.factory import (
    MODEL,
    Ledger,
    let_pass,
    make_principal,
    redis_ms,
    state_of,
    subjects,
)

SLACK_MS = 0.01
# Field of Limits, name of the bucket in a state, period.
BUCKETS = (
    ("requests_per_minute", "rpm", 60_000),
    ("requests_per_hour", "rph", 3_600_000),
    ("requests_per_day", "rpd", 86_400_000),
    ("tokens_per_minute", "tpm", 60_000),
    ("tokens_per_day", "tpd", 86_400_000),
)
RATES = {name for name, *_ in BUCKETS}
_serial = itertools.count()


@dataclass(frozen=True)
class Cost:
    expected: int
    most: int
    micros: int

    def of(self, name: str) -> int:
        return self.expected if name.startswith("tokens") else 1


@dataclass
class Bucket:
    """The earliest and latest that it can be full again, in ms of Redis's clock."""

    limit: int
    period: int
    low: float = 0.0
    high: float = 0.0

    def shift(self, cost: float, before: float, after: float) -> None:
        step = cost * self.period / self.limit
        # A debt begins now; what comes back was taken from where it is.
        low = max(self.low, before) if step > 0 else self.low
        high = max(self.high, after) if step > 0 else self.high
        self.low = min(low + step, before + 2 * self.period)
        self.high = min(high + step, after + 2 * self.period)

    def room(self, now: float) -> tuple[float, float]:
        """The least and the most that can be free, in units of the limit."""
        return tuple(
            (self.period - max(0.0, full - now)) * self.limit / self.period
            for full in (self.high, self.low)
        )


@dataclass
class Subject:
    """What one subject may and has, as its limits would be kept on paper."""

    limits: Limits
    credit: int | None = None
    buckets: dict[str, Bucket] = field(default_factory=dict)
    tokens: int = 0
    tokens_held: int = 0
    micros: int = 0
    micros_held: int = 0

    def __post_init__(self) -> None:
        for name, short, period in BUCKETS:
            limit = getattr(self.limits, name)
            if limit is not None:
                self.buckets[short] = Bucket(limit, period)

    def fits(self, cost: Cost, in_flight: int, now: float, *, at_best: bool) -> bool:
        """Whether it must (at worst) or may (at best) be admitted."""
        slack = 0.001 if at_best else -0.001
        for name, short, _ in BUCKETS:
            bucket = self.buckets.get(short)
            if bucket and bucket.room(now)[at_best] < cost.of(name) - slack:
                return False
        asked = (
            (self.limits.concurrent_requests, in_flight + 1),
            (self.limits.monthly_tokens, self.tokens + self.tokens_held + cost.most),
            (self.limits.monthly_budget_micros, self.micros + self.micros_held + cost.micros),
            (self.credit, self.micros + self.micros_held + cost.micros),
        )
        return all(limit is None or used <= limit for limit, used in asked)

    def take(self, cost: Cost, before: float, after: float) -> None:
        for name, short, _ in BUCKETS:
            if short in self.buckets:
                self.buckets[short].shift(cost.of(name), before, after)
        self.tokens_held += cost.most
        self.micros_held += cost.micros

    def settle(self, cost: Cost, used: int, micros: int, before: float, after: float) -> None:
        for short in ("tpm", "tpd"):
            if short in self.buckets:
                self.buckets[short].shift(used - cost.expected, before, after)
        self.tokens_held -= cost.most
        self.micros_held -= cost.micros
        self.tokens += used
        self.micros += micros

    def pass_time(self, ms: float) -> None:
        for bucket in self.buckets.values():
            bucket.low, bucket.high = bucket.low - ms, bucket.high - ms

    @property
    def is_limited(self) -> bool:
        return self.credit is not None or any(v is not None for v in astuple(self.limits))


@dataclass
class Model:
    subjects: dict[str, Subject]
    open: dict[str, Cost] = field(default_factory=dict)

    def all_fit(self, cost: Cost, now: float, *, at_best: bool) -> bool:
        running = len(self.open)
        return all(s.fits(cost, running, now, at_best=at_best) for s in self.subjects.values())

    def admit(self, request: str, cost: Cost, before: float, after: float) -> None:
        assert self.all_fit(cost, after, at_best=True)
        for subject in self.subjects.values():
            subject.take(cost, before, after)
        self.open[request] = cost

    def settle(self, request: str, used: int, micros: int, before: float, after: float) -> None:
        cost = self.open.pop(request)
        for subject in self.subjects.values():
            subject.settle(cost, used, micros, before, after)

    def compare(self, client: redis.Redis) -> None:
        now, known = redis_ms(client), subjects(client)
        for name, subject in self.subjects.items():
            state = state_of(client, name) if name in known else None
            if state is None:
                assert not subject.is_limited or not (self.open or subject.tokens)
                continue
            for short, bucket in subject.buckets.items():
                full = max(state.seen + getattr(state, short), now)
                assert max(bucket.low, now) - SLACK_MS <= full, (name, short)
                assert full <= max(bucket.high, now) + SLACK_MS, (name, short)
            assert state.in_flight == len(self.open)
            assert (state.tokens_held, state.micros_held) == (
                subject.tokens_held, subject.micros_held,
            )  # fmt: skip
            assert state.life_held == subject.micros_held
            if state.tokens >= 0:
                assert (state.tokens, state.micros) == (subject.tokens, subject.micros)
            if state.life >= 0:
                assert state.life == subject.micros
        assert {member.decode() for member in client.zrange("holds", 0, -1)} == set(self.open)


SUBJECTS = ("o5", "p3", "k7", f"o5:{MODEL}", f"p3:{MODEL}")
CREDIT = "credit"
MOST = {
    "requests_per_minute": 8, "requests_per_hour": 8, "requests_per_day": 8,
    "tokens_per_minute": 300, "tokens_per_day": 900, "concurrent_requests": 4,
    "monthly_tokens": 2_000, "monthly_budget_micros": 5_000, CREDIT: 6_000,
}  # fmt: skip
Drawn = dict[tuple[int, str], int]
# Some limits each time: among all, most would never be the one that refuses.
limits: st.SearchStrategy[Drawn] = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(sorted(MOST))).flatmap(
        lambda place: st.tuples(st.just(place), st.integers(MOST[place[1]] // 4, MOST[place[1]]))
    ),
    min_size=1,
    max_size=9,
).map(dict)
admissions = st.tuples(st.just("admit"), st.integers(1, 80), st.integers(0, 400))
steps = st.one_of(
    admissions,
    admissions,
    st.tuples(st.just("settle"), st.integers(0, 9), st.integers(0, 300)),
    st.tuples(st.just("pass"), st.integers(1, 90_000), st.just(0)),
)


def test_every_limit_there_is_is_in_the_model() -> None:
    assert set(MOST) - {CREDIT} == {each.name for each in fields(Limits)}


@given(limits, st.lists(steps, min_size=15, max_size=30))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_limits_hold_what_the_model_holds(
    valkey: redis.Redis, limits: Drawn, steps: list[tuple[str, int, int]]
) -> None:
    valkey.flushdb()
    asyncio.run(_walk(valkey, limits, steps))


def _set_up(drawn: Drawn) -> tuple[Principal, Model]:
    by_subject = [
        Limits(**{name: limit for (at, name), limit in drawn.items() if at == n and name != CREDIT})
        for n in range(5)
    ]
    model = Model({name: Subject(its) for name, its in zip(SUBJECTS, by_subject, strict=True)})
    credits = [limit for (_, name), limit in drawn.items() if name == CREDIT]
    model.subjects["o5"].credit = credits[0] if credits else None
    organization, project, key, of_organization, of_project = by_subject
    principal = make_principal(
        organization, key, project=project, credit=model.subjects["o5"].credit,
        organization_models={MODEL: of_organization}, project_models={MODEL: of_project},
    )  # fmt: skip
    return principal, model


async def _walk(valkey: redis.Redis, drawn: Drawn, steps: list[tuple[str, int, int]]) -> None:
    link = RedisLink(django_settings.REDIS_URL, timeout_s=5, name="model")
    try:
        principal, model = _set_up(drawn)
        caller = Caller(valkey, Admission(link, 900, Ledger()), principal, model)
        for step in steps:
            await caller.take(*step)
            model.compare(valkey)
    finally:
        await link.aclose()


@dataclass
class Caller:
    """Takes each step in Redis and in the model, and holds one to the other."""

    valkey: redis.Redis
    admission: Admission
    principal: Principal
    model: Model

    async def take(self, action: str, first: int, second: int) -> None:
        if action == "admit":
            await self.admit(Cost(first, first + second, 3 * first + second))
        elif action == "settle" and self.model.open:
            await self.settle(list(self.model.open)[first % len(self.model.open)], second)
        elif action == "pass":
            self.pass_time(first)

    async def admit(self, cost: Cost) -> None:
        refused = await self.is_refused(cost)
        if refused is not None and refused.limit in RATES and refused.retry_after_s is not None:
            self.pass_time(refused.retry_after_s * 1000)
            again = await self.is_refused(cost)
            # Who waits as told is admitted; when a place gets free nobody knows.
            assert again is None or again.limit == "concurrent_requests"

    async def is_refused(self, cost: Cost) -> LimitExceeded | None:
        request, before = f"req-{next(_serial)}", redis_ms(self.valkey)
        try:
            await self.admission.admit(
                self.principal, request, model=MODEL, expected_tokens=cost.expected,
                most_tokens=cost.most, most_cost_micros=cost.micros, note=b"",
            )  # fmt: skip
        except LimitExceeded as refused:
            assert not self.model.all_fit(cost, before, at_best=False)
            return refused
        self.model.admit(request, cost, before, redis_ms(self.valkey))
        return None

    async def settle(self, request: str, used: int) -> None:
        before, micros = redis_ms(self.valkey), used * 2
        assert await self.admission.settle(
            request, used_tokens=used, cost_micros=micros, report=b""
        )
        self.model.settle(request, used, micros, before, redis_ms(self.valkey))

    def pass_time(self, ms: float) -> None:
        let_pass(self.valkey, ms)
        for subject in self.model.subjects.values():
            subject.pass_time(ms)
