"""What the installation served lately: bucket by bucket, kept once it cannot change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing import traffic
from billing.models import UsageEvent
from tests.cast import Cast, build_cast

NOW = datetime(2026, 11, 27, 9, 15, tzinfo=UTC)  # half of its half hour is over
DAY = traffic.SPANS["24h"]
pytestmark = pytest.mark.django_db


@pytest.fixture
def cast(valkey: Any) -> Cast:
    """Nothing is kept before."""
    return build_cast()


def use(cast: Cast, ago: timedelta, number: int = 1, **fields: Any) -> None:
    known = UsageEvent.objects.count()
    terms: dict[str, Any] = {
        "organization": cast.organization,
        "project": cast.project,
        "model": "smol",
        "endpoint": "chat.completions",
        "status": "completed",
        "source": "gateway",
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "started_at": NOW - ago,
        "duration_ms": 100,
        "time_to_first_token_ms": 100,
        "cost_micros": 7,
    }
    UsageEvent.objects.bulk_create(
        UsageEvent(request_id=f"req_{known + at}", **(terms | fields)) for at in range(number)
    )


def test_sums_of_the_span_and_of_the_one_before(cast: Cast) -> None:
    use(cast, timedelta(minutes=1), 3)
    use(cast, timedelta(hours=5), 2, status="failed", cost_micros=0)
    use(cast, timedelta(hours=30), 4)
    use(cast, timedelta(hours=49))
    found = traffic.get_traffic(DAY, NOW)

    assert (found.total("requests"), found.total("failed")) == (5, 2)
    assert (found.total("prompt_tokens"), found.total("completion_tokens")) == (50, 25)
    assert (found.total("cost_micros"), found.total_before("requests")) == (21, 4)
    assert found.starts[-1] == datetime(2026, 11, 27, 9, 0, tzinfo=UTC)
    assert found.digests[-1].requests == 3 and found.elapsed == 0.5
    assert found.seconds == 47.5 * 1_800


def test_of_the_bucket_under_way_as_much_is_compared_as_is_over(cast: Cast) -> None:
    use(cast, timedelta(hours=24, minutes=5), 10)  # the bucket that corresponds to the last
    assert traffic.get_traffic(DAY, NOW).total_before("requests") == 5


def test_percentiles_are_right_to_a_class(cast: Cast) -> None:
    use(cast, timedelta(minutes=2), 90, time_to_first_token_ms=100)
    use(cast, timedelta(hours=2), 10, time_to_first_token_ms=2_000)
    use(cast, timedelta(hours=2), 500, time_to_first_token_ms=None)
    digests = traffic.get_traffic(DAY, NOW).digests

    assert traffic.wait_ms(digests, 0.5) == pytest.approx(100, rel=0.05)
    assert traffic.wait_ms(digests, 0.95) == pytest.approx(2_000, rel=0.05)
    assert traffic.wait_ms(digests[:3], 0.5) is None


def test_the_largest_customers_by_what_they_cost(cast: Cast) -> None:
    use(cast, timedelta(minutes=2), 5, cost_micros=1)
    other = {"organization": cast.other_organization, "project": cast.other_project}
    use(cast, timedelta(hours=3), 2, cost_micros=100, **other)
    use(cast, timedelta(minutes=3), 1, cost_micros=1, **other)
    largest = traffic.get_traffic(DAY, NOW).largest(5)

    assert [each.organization for each in largest] == [
        cast.other_organization.pk,
        cast.organization.pk,
    ]
    assert (largest[0].requests, largest[0].tokens, largest[0].cost_micros) == (3, 45, 201)
    assert len(traffic.get_traffic(DAY, NOW).largest(1)) == 1


def test_what_cannot_change_is_read_once(cast: Cast) -> None:
    use(cast, timedelta(minutes=2), 3)
    use(cast, timedelta(hours=20), 4)
    first = traffic.get_traffic(DAY, NOW)
    use(cast, timedelta(minutes=1), 2)
    use(cast, timedelta(hours=20))  # later than any report comes: not seen any more
    with CaptureQueriesContext(connection) as queries:
        second = traffic.get_traffic(DAY, NOW)

    assert (first.total("requests"), second.total("requests")) == (7, 9)
    starts = [query["sql"].split("to_timestamp(")[1].split(")")[0] for query in queries]
    assert {int(start) for start in starts} == {int(NOW.timestamp()) - 900 - 2 * 1_800}
    cache.clear()
    assert traffic.get_traffic(DAY, NOW).total("requests") == 10


def test_without_redis_all_of_it_is_read(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    use(cast, timedelta(hours=20), 4)
    away = {**settings.CACHES["default"], "LOCATION": "redis://127.0.0.1:1/0"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(traffic, "cache", _cache_at(away))
        assert traffic.get_traffic(DAY, NOW).total("requests") == 4


def _cache_at(terms: dict[str, Any]) -> Any:
    from django.core.cache import CacheHandler

    return CacheHandler({"default": terms})["default"]
