"""Any sequence of admissions and settlements leaves Redis as a model in Python says.

Redis reads its own clock, so the model keeps what a bucket can hold between the
times before and after each call; quotas and gauges are exact.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass, field

import redis
from django.conf import settings as django_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenants.admission import Admission
from tenants.admission.limits import month_of
from tenants.errors import LimitExceeded
from tenants.principal import Limits
from tenants.redis_link import RedisLink
from tests.tenants.factory import make_principal, redis_ms

SLACK_MS = 0.01  # of a number kept with four decimals
_serial = itertools.count()


@dataclass
class Bucket:
    """The earliest and latest that the theoretical arrival time can be."""

    limit: int
    low: float = 0.0
    high: float = 0.0

    def shift(self, cost: int, before: float, after: float, *, from_now: bool) -> None:
        step = cost * 60_000 / self.limit
        low = max(self.low, before) if from_now else self.low
        high = max(self.high, after) if from_now else self.high
        self.low, self.high = low + step, high + step

    def room(self, now: float) -> tuple[float, float]:
        """The least and the most that can be free, in units of the limit."""
        return tuple(
            (60_000 - max(0.0, arrival - now)) * self.limit / 60_000
            for arrival in (self.high, self.low)
        )


@dataclass
class Model:
    limits: Limits
    requests: Bucket
    tokens: Bucket
    month: int = 0
    open: dict[str, tuple[int, int]] = field(default_factory=dict)  # expected, most

    def check_admitted(self, expected: int, most: int, after: float) -> None:
        assert self.requests.room(after)[1] >= 1 - 0.001
        assert self.tokens.room(after)[1] >= expected - 0.001
        assert len(self.open) < self.limits.concurrent_requests
        assert self.month + most <= self.limits.monthly_tokens

    def check_refused(self, expected: int, most: int, before: float) -> None:
        assert (
            self.requests.room(before)[0] < 1.001
            or self.tokens.room(before)[0] < expected + 0.001
            or len(self.open) >= self.limits.concurrent_requests
            or self.month + most > self.limits.monthly_tokens
        )

    def admitted(self, request: str, expected: int, most: int, before: float, after: float) -> None:
        self.check_admitted(expected, most, after)
        self.requests.shift(1, before, after, from_now=True)
        self.tokens.shift(expected, before, after, from_now=True)
        self.month += most
        self.open[request] = (expected, most)

    def settled(self, request: str, used: int, before: float, after: float) -> None:
        expected, most = self.open.pop(request)
        self.tokens.shift(used - expected, before, after, from_now=used > expected)
        self.month += used - most

    def compare(self, client: redis.Redis) -> None:
        now = redis_ms(client)
        for name, bucket in (("rpm", self.requests), ("tpm", self.tokens)):
            arrival = max(float(client.get(f"limit:o5:{name}") or 0), now)
            assert max(bucket.low, now) - SLACK_MS <= arrival, name
            assert arrival <= max(bucket.high, now) + SLACK_MS, name
        running = {member.decode() for member in client.zrange("limit:o5:now", 0, -1)}
        assert running == set(self.open)
        month, _ = month_of(time.time())
        assert int(client.get(f"limit:o5:month:{month}") or 0) == self.month
        assert {member.decode() for member in client.zrange("holds", 0, -1)} == set(self.open)


admissions = st.tuples(st.just("admit"), st.integers(1, 80), st.integers(0, 400))
settlements = st.tuples(st.just("settle"), st.integers(0, 9), st.integers(0, 300))
limits = st.builds(
    Limits,
    requests_per_minute=st.integers(1, 12),
    tokens_per_minute=st.integers(1, 300),
    concurrent_requests=st.integers(1, 4),
    monthly_tokens=st.integers(1, 2_000),
)


@given(limits, st.lists(st.one_of(admissions, settlements), max_size=25))
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_limits_hold_what_the_model_holds(
    valkey: redis.Redis, limits: Limits, steps: list[tuple[str, int, int]]
) -> None:
    valkey.flushdb()
    asyncio.run(_walk(valkey, limits, steps))


async def _walk(valkey: redis.Redis, limits: Limits, steps: list[tuple[str, int, int]]) -> None:
    link = RedisLink(django_settings.REDIS_URL, timeout_s=5, name="model")
    admission = Admission(link, hold_expiry_s=900)
    model = Model(
        limits, Bucket(limits.requests_per_minute or 0), Bucket(limits.tokens_per_minute or 0)
    )
    for action, first, second in steps:
        before = redis_ms(valkey)
        if action == "admit":
            expected, most = first, first + second
            request = f"req-{next(_serial)}"
            try:
                await admission.admit(
                    make_principal(limits), request,
                    expected_tokens=expected, most_tokens=most, note=b"",
                )  # fmt: skip
            except LimitExceeded:
                model.check_refused(expected, most, before)
            else:
                model.admitted(request, expected, most, before, redis_ms(valkey))
        elif model.open:
            request = list(model.open)[first % len(model.open)]
            assert await admission.settle(request, second, b"")
            model.settled(request, second, before, redis_ms(valkey))
        model.compare(valkey)
    await link.aclose()
