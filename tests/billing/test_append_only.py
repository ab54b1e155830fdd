"""What PostgreSQL itself refuses, whoever asks: shown with raw SQL."""

from __future__ import annotations

import importlib
import os
from typing import Any

import psycopg
import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction

from billing.actions import Rejection, record_usage, reject_reports
from billing.models import LedgerTransaction, Price, UsageEvent
from tenants import audit
from tests.billing.factory import MODEL, Tenant, make_price, make_report

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
            organization=tenant.organization, kind="usage", reference="by hand"
        )
        for organization, account, amount in entries:
            cursor.execute(
                "INSERT INTO billing_ledgerentry"
                " (transaction_id, organization_id, account, amount_micros)"
                " VALUES (%s, %s, %s, %s)",
                [posting.pk, organization, account, amount],
            )
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


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
def test_an_old_posting_cannot_be_unbalanced_later(tenant: Tenant) -> None:
    posting = LedgerTransaction.objects.get()
    with pytest.raises(IntegrityError, match="sums to"), transaction.atomic():
        # PostgreSQL alters no table while deferred checks of it wait.
        execute("SET CONSTRAINTS ALL IMMEDIATE")
        execute("ALTER TABLE billing_ledgerentry DROP CONSTRAINT billing_entry_side")
        execute(
            "INSERT INTO billing_ledgerentry"
            " (transaction_id, organization_id, account, amount_micros)"
            " VALUES (%s, %s, 'revenue', 1)",
            posting.pk,
            tenant.organization.pk,
        )


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
