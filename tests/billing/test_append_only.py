"""What PostgreSQL itself refuses, whoever asks: shown with raw SQL."""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction

from billing.actions import Rejection, record_usage, reject_reports
from billing.models import LedgerTransaction, Price, UsageEvent
from tenants import audit
from tenants.models import Organization
from tests.billing.factory import MODEL, Tenant, make_price, make_report, make_tenant

APPEND_ONLY = {
    "billing_usageevent": "model = 'x'",
    "billing_ledgertransaction": "reference = 'x'",
    "billing_ledgerentry": "amount_micros = 0",
    "billing_rejectedreport": "reason = 'x'",
    "tenants_auditevent": "action = 'x'",
}


@pytest.fixture
def one_row_each(tenant: Tenant) -> None:
    make_price()
    assert record_usage([make_report(tenant)]) == 1
    reject_reports([Rejection(b"raw", "why")])
    audit.record_event(
        acting_user=None,
        action="test",
        object_type="test",
        object_id="1",
        organization=tenant.organization,
    )


def execute(sql: str, *params: int | str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql, params)


@contextmanager
def refused(complaint: str) -> Iterator[None]:
    with pytest.raises(IntegrityError, match=complaint), transaction.atomic():
        yield


def dump(table: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {table} ORDER BY id")
        return list(cursor.fetchall())


@pytest.mark.usefixtures("one_row_each")
@pytest.mark.parametrize("table", APPEND_ONLY)
def test_rows_are_never_changed_or_deleted(table: str) -> None:
    before = dump(table)
    assert before
    for sql in (
        f"UPDATE {table} SET {APPEND_ONLY[table]}",
        f"DELETE FROM {table}",
        f"DELETE FROM {table} WHERE id = -1",
    ):
        with pytest.raises(IntegrityError, match="append-only"):
            execute(sql)
    assert dump(table) == before


@pytest.mark.usefixtures("one_row_each")
def test_a_price_is_never_changed_nor_deleted_once_used() -> None:
    with pytest.raises(IntegrityError, match="append-only"):
        execute("UPDATE billing_price SET output_micros_per_million = 0")
    with pytest.raises(IntegrityError, match="foreign key"), transaction.atomic():
        execute("DELETE FROM billing_price WHERE model = %s", MODEL)
        execute("SET CONSTRAINTS ALL IMMEDIATE")
    assert Price.objects.get().output_micros_per_million == 6_000_000


def test_truncate_is_refused_outside_test_databases(db: None) -> None:
    """In a database of another name, because the trigger lets Django empty test_… ones."""
    migration = importlib.import_module("tenants.migrations.0002_append_only_audit")
    name = f"sluice_truncate_{os.getpid()}"
    params = connection.get_connection_params()
    address = {key: params[key] for key in ("host", "port", "user", "password") if key in params}
    with psycopg.connect(**address, dbname="postgres", autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
        try:
            with psycopg.connect(**address, dbname=name, autocommit=True) as database:
                database.execute("CREATE TABLE tenants_auditevent (id int)")
                database.execute(migration.FUNCTION)
                database.execute(migration.TRIGGER)
                with pytest.raises(psycopg.errors.RestrictViolation, match="TRUNCATE refused"):
                    database.execute("TRUNCATE tenants_auditevent")
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def post(tenant: Tenant, *entries: tuple[int, str, int]) -> None:
    """A posting with (organization, account, amount) entries; checks run as at a commit."""
    with transaction.atomic(), connection.cursor() as cursor:
        posting = LedgerTransaction.objects.create(
            organization=tenant.organization, kind="credit", reference="by hand"
        )
        if entries:
            add_entries(posting, *entries)
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


def add_entries(posting: LedgerTransaction, *entries: tuple[int, str, int]) -> None:
    """In one statement, as a posting's entries must come."""
    values = [value for entry in entries for value in (posting.pk, *entry)]
    rows = ", ".join(["(%s, %s, %s, %s)"] * len(entries))
    execute(
        "INSERT INTO billing_ledgerentry"
        f" (transaction_id, organization_id, account, amount_micros) VALUES {rows}",
        *values,
    )


def test_a_posting_that_balances_is_accepted(tenant: Tenant) -> None:
    ours = tenant.organization.pk
    post(tenant, (ours, "receivable", 5), (ours, "revenue", -5))
    assert len(dump("billing_ledgerentry")) == 2


@pytest.mark.parametrize(
    ("amounts", "complaint"),
    [((5, -4), "sums to 1"), ((5,), "has 1 entries"), ((), "has 0 entries")],
)
def test_a_posting_that_does_not_balance_is_refused(
    tenant: Tenant, amounts: tuple[int, ...], complaint: str
) -> None:
    entries = zip(("receivable", "revenue"), amounts, strict=False)
    with pytest.raises(IntegrityError, match=complaint):
        post(tenant, *((tenant.organization.pk, account, n) for account, n in entries))
    assert dump("billing_ledgertransaction") == []


def test_entries_of_another_organization_are_refused(tenant: Tenant, stranger: Tenant) -> None:
    with pytest.raises(IntegrityError, match="another organization"):
        post(
            tenant,
            (tenant.organization.pk, "receivable", 5),
            (stranger.organization.pk, "revenue", -5),
        )


@pytest.mark.usefixtures("one_row_each")
@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        ([("granted", 1)], "has 1 entries"),
        ([("granted", 2), ("other", -1)], "sums to 1"),
    ],
)
def test_an_old_posting_cannot_be_unbalanced_later(
    tenant: Tenant, entries: list[tuple[str, int]], complaint: str
) -> None:
    posting = LedgerTransaction.objects.get()
    with pytest.raises(IntegrityError, match=complaint):
        add_entries(posting, *((tenant.organization.pk, *entry) for entry in entries))
    assert len(dump("billing_ledgerentry")) == 2


def test_entries_need_their_posting(tenant: Tenant) -> None:
    ours = tenant.organization.pk
    nowhere = LedgerTransaction(pk=2**40)
    with pytest.raises(IntegrityError, match="there is no ledger transaction"):
        add_entries(nowhere, (ours, "receivable", 5), (ours, "revenue", -5))


def test_a_posting_needs_its_organization(tenant: Tenant) -> None:
    nobody = Organization(pk=2**40)
    with pytest.raises(IntegrityError, match="organization that is not there"):
        post(Tenant(nobody, tenant.project, tenant.key))


# --- What stands in for foreign keys ------------------------------------------------------------


@pytest.mark.parametrize("field", ["organization", "project", "api_key", "price"])
def test_usage_names_only_who_is_there_and_together(
    tenant: Tenant, stranger: Tenant, field: str
) -> None:
    """PostgreSQL refuses what ``record_usage`` would have set aside, whoever writes it."""
    make_price()
    record_usage([make_report(tenant)])
    foreign = {"project": stranger.project.pk, "api_key": stranger.key.pk}
    for other in (foreign.get(field), 2**40):
        event = UsageEvent.objects.get()
        event.pk, event.request_id = None, "req_other"
        setattr(event, f"{field}_id", other)
        if other is not None:
            with refused("not there or not together"):
                event.save(force_insert=True)
    assert UsageEvent.objects.count() == 1


@pytest.mark.usefixtures("one_row_each")
@pytest.mark.parametrize(
    "changed", ["amount_micros + 1", "amount_micros * 2"], ids=["unbalanced", "not the cost"]
)
def test_a_posting_of_usage_is_its_cost(tenant: Tenant, changed: str) -> None:
    record_usage([make_report(tenant, model="free")])
    event = UsageEvent.objects.get(model="free")
    with pytest.raises(IntegrityError, match=r"sums to 2|does not post the cost"):
        execute(
            f"""
            WITH posting AS (
                INSERT INTO billing_ledgertransaction
                    (organization_id, kind, reference, usage_event_id, posted_at)
                VALUES (%s, 'usage', %s, %s, now()) RETURNING id, organization_id
            )
            INSERT INTO billing_ledgerentry
                (transaction_id, organization_id, account, amount_micros)
            SELECT posting.id, posting.organization_id, entry.account, {changed}
            FROM posting, billing_ledgerentry AS entry
            """,
            tenant.organization.pk,
            event.request_id,
            event.pk,
        )


@pytest.mark.usefixtures("one_row_each")
@pytest.mark.parametrize(
    "table", ["tenants_organization", "tenants_project", "tenants_apikey", "billing_price"]
)
def test_who_has_usage_is_not_deleted(tenant: Tenant, table: str) -> None:
    ids = {
        "tenants_organization": tenant.organization.pk,
        "tenants_project": tenant.project.pk,
        "tenants_apikey": tenant.key.pk,
        "billing_price": Price.objects.get().pk,
    }
    for sql in (f"DELETE FROM {table} WHERE id = %s", f"UPDATE {table} SET id = -1 WHERE id = %s"):
        with pytest.raises(IntegrityError, match=r"foreign key|append-only"):
            execute(sql, ids[table])
    assert ids[table] in {row[0] for row in dump(table)}


@pytest.mark.django_db(transaction=True)
def test_who_gets_usage_at_this_moment_is_not_deleted() -> None:
    """The deletion looked before the usage was committed, waits for it, and looks again."""
    tenant = make_tenant()
    other = connection.copy()
    raised: list[Exception] = []

    def delete() -> None:
        try:
            with other.cursor() as cursor:
                cursor.execute("DELETE FROM tenants_apikey WHERE id = %s", [tenant.key.pk])
        except IntegrityError as error:
            raised.append(error)
        finally:
            other.close()

    with transaction.atomic():
        record_usage([make_report(tenant)])
        other.inc_thread_sharing()
        deleting = threading.Thread(target=delete)
        deleting.start()
        wait_until_blocked()
    deleting.join(timeout=10)
    assert "foreign key" in str(raised)
    assert UsageEvent.objects.get().api_key == tenant.key


def wait_until_blocked() -> None:
    """Until somebody waits for a lock of this session."""
    ours = connection.connection.info.backend_pid
    deadline = time.monotonic() + 10
    with connection.cursor() as cursor:
        while time.monotonic() < deadline:
            cursor.execute(
                "SELECT count(*) FROM pg_locks WHERE NOT granted"
                " AND %s = ANY (pg_blocking_pids(pid))",
                [ours],
            )
            if cursor.fetchone() != (0,):
                return
            time.sleep(0.01)
    pytest.fail("nobody waited")


def test_cached_tokens_above_prompt_tokens_are_refused(tenant: Tenant) -> None:
    make_price()
    record_usage([make_report(tenant)])
    event = UsageEvent.objects.get()
    event.pk, event.request_id, event.cached_tokens = None, "req_other", 101
    with pytest.raises(IntegrityError, match="cached_within_prompt"), transaction.atomic():
        event.save(force_insert=True)


def test_a_price_beyond_all_bounds_is_refused(db: None) -> None:
    with pytest.raises(IntegrityError, match="within_bounds"), transaction.atomic():
        make_price(rates=(10**13, 0, 0))
    price = Price(
        model="m",
        input_micros_per_million=10**13,
        cached_input_micros_per_million=0,
        output_micros_per_million=0,
    )
    with pytest.raises(ValidationError, match="less than or equal"):
        price.full_clean()
