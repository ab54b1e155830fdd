"""What was spent, read where it lies: rows, and reports that are not rows yet; each once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from django.conf import settings
from redis import Redis

from billing import spending
from billing.actions import record_usage
from billing.models import UsageEvent
from billing.pricebook import Pricebook
from billing.spending import SpendingReader, recent_output_tokens
from billing.usage import STREAM, UsageReport, encode_report
from tenants import scope
from tenants.admission import Spent, SpentQuery
from tenants.errors import AdmissionUnavailable
from tenants.redis_link import RedisLink
from tests.billing.factory import MODEL, Tenant, make_price, make_report, make_tenant
from tests.tenants.database import in_thread

# A request of the factory: 110 tokens, 260 micro-dollars.
MONTH = datetime(2026, 3, 1, tzinfo=UTC)
FEBRUARY = datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC).timestamp()

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
async def reader(valkey: Redis) -> AsyncIterator[SpendingReader]:
    link = RedisLink(settings.REDIS_URL, timeout_s=5, name="spending")
    book = Pricebook([await in_thread(make_price)])
    yield SpendingReader(link, book)
    await link.aclose()


def query(tenant: Tenant, *, needs_life: bool = False) -> SpentQuery:
    return SpentQuery(tenant.organization.pk, None, None, None, MONTH, needs_life)


def wait_in_stream(valkey: Redis, *reports: UsageReport) -> None:
    for report in reports:
        valkey.xadd(STREAM, {b"report": encode_report(report)})


async def test_rows_and_waiting_reports_are_added_up_each_once(
    reader: SpendingReader, valkey: Redis
) -> None:
    tenant = await in_thread(make_tenant)
    recorded, both, waiting = (make_report(tenant) for _ in range(3))
    await in_thread(record_usage, [recorded, both])
    wait_in_stream(valkey, both, waiting, waiting)  # one is recorded and not deleted yet

    assert await reader(query(tenant)) == Spent(330, 780, None)


async def test_a_month_begins_at_its_first_moment_and_a_life_before_it(
    reader: SpendingReader, valkey: Redis
) -> None:
    tenant = await in_thread(make_tenant)
    first = make_report(tenant, started_at=MONTH.timestamp())
    await in_thread(record_usage, [make_report(tenant, started_at=FEBRUARY), first])
    wait_in_stream(valkey, make_report(tenant, started_at=FEBRUARY))

    assert await reader(query(tenant)) == Spent(110, 260, None)
    assert await reader(query(tenant, needs_life=True)) == Spent(110, 260, 780)


async def test_each_subject_has_its_own_sum_and_nobody_elses(
    reader: SpendingReader, valkey: Redis
) -> None:
    tenant, stranger = await in_thread(make_tenant), await in_thread(make_tenant, "Other")
    mine = make_report(tenant)
    await in_thread(record_usage, [mine, make_report(tenant, model="other"), make_report(stranger)])
    wait_in_stream(valkey, make_report(stranger), make_report(tenant, api_key=None))
    whole = query(tenant)

    assert (await reader(whole)).month_tokens == 330
    assert (await reader(replace(whole, model=MODEL))).month_tokens == 220
    assert (await reader(replace(whole, api_key=tenant.key.pk))).month_tokens == 220
    assert (await reader(replace(whole, project=tenant.project.pk))).month_tokens == 330
    for foreign in ({"project": stranger.project.pk}, {"api_key": stranger.key.pk}):
        assert await reader(replace(whole, **foreign)) == Spent(0, 0, None)


async def test_what_nobody_can_read_is_nobodys_and_stops_nothing(
    reader: SpendingReader, valkey: Redis
) -> None:
    tenant = await in_thread(make_tenant)
    valkey.xadd(STREAM, {b"report": b"\xc1"})
    valkey.xadd(STREAM, {b"other": b""})
    wait_in_stream(valkey, make_report(tenant))

    assert await reader(query(tenant)) == Spent(110, 260, None)


async def test_when_the_collector_is_far_behind_nobody_knows(
    reader: SpendingReader, valkey: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spending, "MOST_WAITING", 3)
    tenant = await in_thread(make_tenant)
    wait_in_stream(valkey, *(make_report(tenant) for _ in range(3)))

    with pytest.raises(AdmissionUnavailable):
        await reader(query(tenant))


async def test_a_statement_that_takes_too_long_is_given_up(
    reader: SpendingReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spending, "STATEMENT_TIMEOUT", "50ms")
    monkeypatch.setattr(spending, "_SQL", "SELECT 1, 1, 1 FROM pg_sleep(5)")
    tenant = await in_thread(make_tenant)

    with pytest.raises(AdmissionUnavailable):
        await reader(query(tenant))


async def test_lengths_of_answers_come_oldest_first_and_no_more_than_asked() -> None:
    tenant = await in_thread(make_tenant)
    reports = [
        make_report(tenant, completion_tokens=n, started_at=MONTH.timestamp() + n)
        for n in range(1, 8)
    ]
    others = [
        make_report(tenant, model="other"),
        make_report(tenant, status="failed", completion_tokens=99),
    ]
    await in_thread(record_usage, [*reports, *others])

    def read() -> list[int]:
        with scope.for_organization(tenant.organization.pk):
            return recent_output_tokens(tenant.key.pk, MODEL, 4)

    assert await in_thread(read) == [4, 5, 6, 7]
    assert await in_thread(UsageEvent.objects.count) == 9
