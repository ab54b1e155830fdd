"""Reports become rows and postings: once each, whatever comes twice or makes no sense."""

from __future__ import annotations

import logging
import math
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, get_args

import msgspec
import pytest
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from billing import intake, recording
from billing.actions import add_price, record_usage
from billing.models import LedgerEntry, LedgerTransaction, Price, RejectedReport, UsageEvent
from billing.selectors import check_ledger, ledger_balance
from tenants.actions import touch_api_keys
from tenants.errors import InvalidInput
from tenants.models import AuditEvent
from tests.billing.factory import STARTED_AT, Tenant, make_price, make_report, make_tenant

# 100 prompt tokens at 2, 10 output tokens at 6 micro-dollars.
COST = 260


def test_a_report_becomes_its_row_its_posting_and_two_entries(tenant: Tenant) -> None:
    price = make_price()
    report = make_report(
        tenant, cached_tokens=40, flags=["violence"], cache_hit=False, engine_us=2**33
    )
    assert record_usage([report]) == 1
    event = UsageEvent.objects.get()
    for name in (
        "request_id",
        "model",
        "endpoint",
        "status",
        "source",
        "prompt_tokens",
        "cached_tokens",
        "completion_tokens",
        "time_to_first_token_ms",
        "duration_ms",
        "replica",
        "cache_hit",
        "flags",
        "engine_us",
    ):
        assert getattr(event, name) == getattr(report, name)
    assert event.organization_id == report.organization
    assert event.project_id == report.project
    assert event.api_key_id == report.api_key
    assert event.started_at == STARTED_AT
    assert event.price == price
    assert event.cost_micros == 60 * 2 + 40 // 2 + 10 * 6
    posting = LedgerTransaction.objects.get()
    assert (posting.kind, posting.reference) == ("usage", report.request_id)
    assert (posting.organization, posting.usage_event) == (tenant.organization, event)
    assert dict(LedgerEntry.objects.values_list("account", "amount_micros")) == {
        "receivable": event.cost_micros,
        "revenue": -event.cost_micros,
    }
    assert check_ledger() == []


def test_a_request_is_recorded_once_however_often_it_is_reported(tenant: Tenant) -> None:
    make_price()
    gateway = make_report(tenant)
    worker = make_report(
        tenant, request_id=gateway.request_id, source="worker", completion_tokens=11
    )
    assert record_usage([gateway, worker, gateway]) == 1
    assert record_usage([worker]) == 0
    assert UsageEvent.objects.get().source == "gateway"
    assert ledger_balance(tenant.organization) == COST
    assert check_ledger() == []


def test_no_reports_are_no_work(tenant: Tenant, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert record_usage([]) == 0


def test_the_number_of_queries_does_not_grow_with_the_batch(
    tenant: Tenant, django_assert_max_num_queries: Any
) -> None:
    make_price()
    with django_assert_max_num_queries(6):  # savepoint and its end, prices, timeout, insert, keys
        assert record_usage([make_report(tenant) for _ in range(200)]) == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "failed"},
        {"status": "blocked", "completion_tokens": 0},
        {"status": "cancelled", "completion_tokens": 0},
        {"completion_tokens": 0},
        {"prompt_tokens": 0, "completion_tokens": 0},
    ],
)
def test_what_costs_nothing_has_its_row_and_no_posting(
    tenant: Tenant, changes: dict[str, Any]
) -> None:
    make_price()
    assert record_usage([make_report(tenant, **changes)]) == 1
    assert UsageEvent.objects.get().cost_micros == 0
    assert LedgerTransaction.objects.count() == 0
    assert check_ledger() == []


def test_a_response_cache_hit_pays_the_cached_price_only(tenant: Tenant) -> None:
    make_price()
    record_usage([make_report(tenant, cache_hit=True)])
    assert UsageEvent.objects.get().cost_micros == 50


def test_each_request_has_the_price_of_its_start(tenant: Tenant) -> None:
    make_price()
    make_price(rates=(1_000_000, 0, 0), effective_from=STARTED_AT)
    make_price(rates=(9_000_000, 0, 0), effective_from=STARTED_AT + timedelta(seconds=1))
    before = STARTED_AT - timedelta(seconds=1)
    record_usage([make_report(tenant), make_report(tenant, started_at=before.timestamp())])
    assert [event.cost_micros for event in UsageEvent.objects.all()] == [100, COST]


def test_a_model_without_price_costs_nothing_and_is_named_once(
    tenant: Tenant, caplog: pytest.LogCaptureFixture
) -> None:
    recording._warn_unpriced.cache_clear()
    with caplog.at_level(logging.WARNING, "billing.recording"):
        record_usage([make_report(tenant, model="free") for _ in range(3)])
        record_usage([make_report(tenant, model="free")])
    assert [getattr(record, "model", None) for record in caplog.records] == ["free"]
    assert not UsageEvent.objects.exclude(price=None, cost_micros=0).exists()
    assert UsageEvent.objects.count() == 4
    assert LedgerTransaction.objects.count() == 0


POISON: dict[str, dict[str, Any]] = {
    "unknown organization": {"organization": 999_999_999},
    "organization beyond bigint": {"organization": 2**63},
    "negative organization": {"organization": -1},
    "unknown project": {"project": 999_999_999},
    "unknown key": {"api_key": 999_999_999},
    "negative prompt": {"prompt_tokens": -1},
    "negative output": {"completion_tokens": -5},
    "absurd output": {"completion_tokens": 2**40},
    "cached above prompt": {"cached_tokens": 101},
    "negative duration": {"duration_ms": -1},
    "duration beyond int": {"duration_ms": 2**31},
    "negative engine time": {"engine_us": -1},
    "negative ttft": {"time_to_first_token_ms": -1},
    "no request id": {"request_id": ""},
    "long request id": {"request_id": "r" * 41},
    "NUL in model": {"model": "a\0b"},
    "NUL in flag": {"flags": ["a\0b"]},
    "lone surrogate": {"replica": "\ud800"},
    "long model": {"model": "m" * 121},
    "no endpoint": {"endpoint": ""},
    "many flags": {"flags": ["x"] * 33},
    "long flag": {"flags": ["x" * 61]},
    "unknown status": {"status": "fine"},
    "unknown source": {"source": "elsewhere"},
    "unknown tier": {"tier": "gold"},
    "before our time": {"started_at": 0.0},
    "far future": {"started_at": STARTED_AT.timestamp() * 2},
    "not a time": {"started_at": math.nan},
    "infinite time": {"started_at": math.inf},
}


@pytest.mark.parametrize("changes", POISON.values(), ids=POISON.keys())
def test_poison_is_set_aside_and_blocks_nobody(
    tenant: Tenant, changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    make_price()
    poison = make_report(tenant, **changes)
    batch = [make_report(tenant), poison, make_report(tenant)]
    with caplog.at_level(logging.ERROR, "billing.recording"):
        assert record_usage(batch) == 2
    assert "rejected" in caplog.text
    rejected = RejectedReport.objects.get()
    assert rejected.reason
    assert rejected.content
    assert ledger_balance(tenant.organization) == 2 * COST
    # Redelivered, it stays one row.
    assert record_usage(batch) == 0
    assert RejectedReport.objects.count() == 1


def test_the_choices_are_those_of_the_rows() -> None:
    for field in ("status", "source", "tier"):
        (choices,) = {
            get_args(f.type) for f in msgspec.structs.fields(intake._Bounds) if f.name == field
        }
        assert set(choices) == {value for value, _ in UsageEvent._meta.get_field(field).choices}


@pytest.mark.parametrize("field", ["project", "api_key"])
def test_nobody_pays_with_another_organizations_project_or_key(
    tenant: Tenant, stranger: Tenant, field: str
) -> None:
    make_price()
    foreign = {"project": stranger.project.pk, "api_key": stranger.key.pk}[field]
    assert record_usage([make_report(tenant, **{field: foreign})]) == 0
    assert RejectedReport.objects.get().reason.endswith(
        f"is not of organization {tenant.organization.pk}"
    )
    stranger.key.refresh_from_db()
    assert stranger.key.last_used_at is None


@contextmanager
def constraint(sql: str) -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE billing_usageevent ADD CONSTRAINT for_this_test {sql}")
        try:
            yield
        finally:
            cursor.execute("ALTER TABLE billing_usageevent DROP CONSTRAINT for_this_test")


@pytest.mark.django_db(transaction=True)
def test_a_row_that_only_postgresql_refuses_stands_aside_alone() -> None:
    tenant = make_tenant()
    make_price()
    batch = [make_report(tenant) for _ in range(9)]
    batch[6] = make_report(tenant, replica="cursed")
    with constraint("CHECK (replica <> 'cursed')"):
        assert record_usage(batch) == 8
        assert RejectedReport.objects.get().request_id == batch[6].request_id
        assert "for_this_test" in RejectedReport.objects.get().reason
    assert ledger_balance(tenant.organization) == 8 * COST
    assert check_ledger() == []


@pytest.mark.django_db(transaction=True)
def test_a_database_in_trouble_records_nothing_and_says_so() -> None:
    tenant = make_tenant()
    make_price()
    report = make_report(tenant)
    with hold_locked("billing_usageevent"), pytest.raises(OperationalError), transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '50ms'")
        record_usage([report])
    assert RejectedReport.objects.count() == UsageEvent.objects.count() == 0
    assert record_usage([report]) == 1


@contextmanager
def hold_locked(table: str) -> Iterator[None]:
    """Another session holds ``table`` exclusively meanwhile."""
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE")
            yield
            cursor.execute("ROLLBACK")
    finally:
        other.close()


def in_threads(works: list[Callable[[], None]]) -> list[BaseException]:
    """Run them at once, each with a connection of its own; returns what was raised."""
    raised: list[BaseException] = []
    start = threading.Barrier(len(works))

    def run(work: Callable[[], None]) -> None:
        try:
            start.wait(timeout=10)
            work()
        except BaseException as error:
            raised.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    return raised


@pytest.mark.django_db(transaction=True)
def test_workers_with_overlapping_batches_record_each_request_once() -> None:
    tenant = make_tenant()
    make_price()
    reports = [make_report(tenant) for _ in range(600)]
    recorded: list[int] = []

    def worker(seed: int) -> Callable[[], None]:
        mine = random.Random(seed).sample(reports, len(reports))

        def work() -> None:
            for begin in range(0, len(mine), 50):
                recorded.append(record_usage(mine[begin : begin + 50]))

        return work

    assert in_threads([worker(seed) for seed in range(4)]) == []
    assert sum(recorded) == len(reports) == UsageEvent.objects.count()
    assert LedgerTransaction.objects.count() == len(reports)
    assert ledger_balance(tenant.organization) == len(reports) * COST
    assert check_ledger() == []


@pytest.mark.django_db(transaction=True)
def test_control_looking_before_inserting_would_count_twice() -> None:
    """The race that ``ON CONFLICT`` closes is real: both workers look before either inserts."""
    report = make_report(make_tenant())
    looked = threading.Barrier(2)
    unseen: list[bool] = []

    def naive() -> None:
        with transaction.atomic():
            unseen.append(not UsageEvent.objects.filter(request_id=report.request_id).exists())
            looked.wait(timeout=10)

    assert in_threads([naive, naive]) == []
    assert unseen == [True, True]


def test_the_ledger_sums_to_the_costs_and_to_zero(tenant: Tenant, stranger: Tenant) -> None:
    make_price(rates=(333_333, 111_111, 777_777))
    generator = random.Random(7)
    for owner in (tenant, stranger):
        record_usage(
            [
                make_report(
                    owner,
                    prompt_tokens=generator.randrange(50, 5000),
                    cached_tokens=generator.randrange(50),
                    completion_tokens=generator.randrange(500),
                    status=generator.choice(["completed", "cancelled", "failed", "blocked"]),
                )
                for _ in range(200)
            ]
        )
    for owner in (tenant, stranger):
        costs = UsageEvent.objects.filter(organization=owner.organization)
        assert ledger_balance(owner.organization) == sum(
            costs.values_list("cost_micros", flat=True)
        )
    assert sum(LedgerEntry.objects.values_list("amount_micros", flat=True)) == 0
    assert check_ledger() == []


def test_keys_remember_their_last_use_and_never_go_back(tenant: Tenant) -> None:
    later = STARTED_AT + timedelta(minutes=5)
    record_usage([make_report(tenant, started_at=later.timestamp()), make_report(tenant)])
    tenant.key.refresh_from_db()
    assert tenant.key.last_used_at == later
    record_usage([make_report(tenant), make_report(tenant, api_key=None)])
    tenant.key.refresh_from_db()
    assert tenant.key.last_used_at == later
    assert touch_api_keys({tenant.key.pk: STARTED_AT, 999_999_999: later}) == 0
    assert touch_api_keys({}) == 0


def test_a_price_is_added_and_audited(db: None) -> None:
    price = add_price(
        "m",
        input_micros_per_million=3,
        cached_input_micros_per_million=1,
        output_micros_per_million=9,
        acting_user=None,
        address="10.0.0.1",
    )
    assert Price.objects.get() == price
    event = AuditEvent.objects.get()
    assert (event.action, event.object_id, event.address) == (
        "price.added",
        str(price.pk),
        "10.0.0.1",
    )
    assert event.after["output_micros_per_million"] == 9


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"model": ""}, "model"),
        ({"model": "m" * 121}, "model"),
        ({"input_micros_per_million": -1}, "input_micros_per_million"),
        ({"output_micros_per_million": 10**12 + 1}, "output_micros_per_million"),
        ({"priority_percent": 1001}, "priority_percent"),
        ({"batch_percent": -1}, "batch_percent"),
        ({"effective_from": STARTED_AT.replace(tzinfo=None)}, "effective_from"),
        ({"effective_from": STARTED_AT - timedelta(days=9999)}, "effective_from"),
    ],
)
def test_a_senseless_price_is_refused(db: None, changes: dict[str, Any], param: str) -> None:
    fields: dict[str, Any] = {
        "model": "m",
        "input_micros_per_million": 1,
        "cached_input_micros_per_million": 1,
        "output_micros_per_million": 1,
    }
    with pytest.raises(InvalidInput) as refusal:
        add_price(**(fields | changes), acting_user=None)
    assert refusal.value.param == param
    assert not Price.objects.exists()
    assert not AuditEvent.objects.exists()


def test_two_prices_cannot_begin_at_one_moment(db: None) -> None:
    moment = timezone.now() + timedelta(days=1)
    rates: Any = {
        "input_micros_per_million": 1,
        "cached_input_micros_per_million": 1,
        "output_micros_per_million": 1,
    }
    add_price("m", **rates, effective_from=moment, acting_user=None)
    with pytest.raises(InvalidInput):
        add_price("m", **rates, effective_from=moment, acting_user=None)
    assert Price.objects.count() == AuditEvent.objects.count() == 1
