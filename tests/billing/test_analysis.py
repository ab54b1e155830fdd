"""Usage cut by time and by what it was used for: adds up, ranks, and stays in its organization."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing.analysis import (
    DRAWN_SLICES,
    MOST_SLICES,
    Asked,
    Sums,
    Wait,
    analyse,
    buckets_of,
    first_token_waits,
    select_events,
    total_of,
)
from billing.models import UsageEvent
from billing.slices import name_slices
from tenants import actions
from tests.billing.factory import Tenant
from tests.cast import make_user

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 1, tzinfo=UTC)
END = START + timedelta(days=3)


def add(tenant: Tenant, count: int = 1, **changes: Any) -> None:
    """Requests of 100 + 10 tokens at noon of the first day, a micro-dollar each."""
    made = UsageEvent.objects.count()
    fields = {
        "organization": tenant.organization, "project": tenant.project, "api_key": tenant.key,
        "model": "small", "endpoint": "chat.completions", "status": "completed",
        "source": "gateway", "prompt_tokens": 100, "cached_tokens": 5, "completion_tokens": 10,
        "started_at": START + timedelta(hours=12), "duration_ms": 300, "cost_micros": 1,
    } | changes  # fmt: skip
    UsageEvent.objects.bulk_create(
        UsageEvent(request_id=f"req_{made + number}", **fields) for number in range(count)
    )


def asked(tenant: Tenant, **changes: Any) -> Asked:
    return Asked(tenant.organization, **{"start": START, "end": END} | changes)


def test_every_request_is_in_exactly_one_bucket_and_slice(tenant: Tenant, stranger: Tenant) -> None:
    add(tenant, 3)
    add(tenant, 2, model="large", started_at=START + timedelta(days=1), status="failed")
    add(tenant, 1, model="large", started_at=END - timedelta(microseconds=1), status="blocked")
    add(tenant, 1, started_at=END)  # the next period's
    add(tenant, 1, started_at=START - timedelta(microseconds=1))
    add(stranger, 40, model="theirs")

    found = analyse(asked(tenant), "day", "model")

    assert found.total == Sums(6, 3, 600, 60, 30, 6)
    assert [(each.key, each.sums.requests) for each in found.slices] == [("large", 3), ("small", 3)]
    assert [sums.requests for sums in found.by_time()] == [3, 2, 1]
    assert [sums.errors for sums in found.row("large")] == [0, 2, 1]
    assert found.buckets == buckets_of(START, END, "day")
    assert analyse(asked(tenant), "day").by_time() == found.by_time()
    assert total_of(asked(tenant)) == found.total
    assert total_of(asked(tenant, model="absent")) == Sums()


def test_hours_are_those_of_utc_and_a_period_begins_within_one() -> None:
    begun = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
    hours = buckets_of(begun, begun + timedelta(hours=2), "hour")
    assert [hour.hour for hour in hours] == [12, 13, 14]
    assert buckets_of(begun, begun, "hour") == (begun.replace(minute=0),)


@pytest.mark.parametrize("rank", ["requests", "cost_micros"])
def test_the_largest_come_first_and_all_others_together(tenant: Tenant, rank: Any) -> None:
    models = MOST_SLICES + 3
    for number in range(models):
        # The more requests, the less they cost.
        add(tenant, number + 1, model=f"m{number:02}", cost_micros=(models - number) ** 3)
    found = analyse(asked(tenant), "day", "model", rank)

    amounts = [getattr(each.sums, rank) for each in found.slices]
    assert len(amounts) == MOST_SLICES and amounts == sorted(amounts, reverse=True)
    assert set(found.cells) == {each.key for each in found.slices[:DRAWN_SLICES]} | {None}
    everything = sum((each.sums for each in found.slices), found.rest)
    assert everything == found.total
    assert sum(found.by_time(), Sums()) == found.total
    assert found.rest.requests > 0


def test_a_keys_user_is_its_service_account_or_its_maker(tenant: Tenant) -> None:
    ada = make_user("ada")
    account = actions.create_service_account(tenant.project, "Worker", acting_user=ada)
    made, _ = actions.create_api_key(tenant.project, "Ada's", acting_user=ada)
    of_account, _ = actions.create_api_key(account, "Worker's", acting_user=ada)
    add(tenant, 3, api_key=made)
    add(tenant, 2, api_key=of_account)
    add(tenant, 1, api_key=None)

    found = analyse(asked(tenant), "day", "user")
    names = name_slices(tenant.organization, "user", [each.key for each in found.slices])

    shown = {names[each.key].label if each.key else "": each.sums.requests for each in found.slices}
    assert shown == {"Ada": 3, "Worker": 2, "": 1}
    counts = {
        "creator": (asked(tenant, creator=ada.pk), 3),
        "account": (asked(tenant, service_account=account.pk), 2),
        "portal": (asked(tenant, is_without_key=True), 1),
        "key": (asked(tenant, api_key=made.pk), 3),
        "status": (asked(tenant, status="failed"), 0),
    }
    for which, (wanted, count) in counts.items():
        assert select_events(wanted).count() == count, which


def test_names_are_ones_own(tenant: Tenant, stranger: Tenant) -> None:
    keys = [str(tenant.key.pk), str(stranger.key.pk)]
    assert list(name_slices(tenant.organization, "key", keys)) == keys[:1]
    projects = [str(tenant.project.pk), str(stranger.project.pk), ""]
    assert list(name_slices(tenant.organization, "project", projects)) == projects[:1]


def test_waits_are_values_that_were_measured(tenant: Tenant, stranger: Tenant) -> None:
    for wait in range(1, 101):
        add(tenant, time_to_first_token_ms=wait)
    add(tenant, 50, time_to_first_token_ms=None)
    add(tenant, time_to_first_token_ms=7, started_at=START + timedelta(days=2))
    add(stranger, 900, time_to_first_token_ms=9_999)

    assert first_token_waits(asked(tenant, end=START + timedelta(days=1))) == {None: Wait(50, 95)}
    by_day = first_token_waits(asked(tenant), "day")
    assert by_day == {START: Wait(50, 95), START + timedelta(days=2): Wait(7, 7)}
    assert first_token_waits(asked(tenant, model="absent")) == {None: Wait(None, None)}
