"""What the portal and the API show, and the ledger's own check."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from billing.actions import record_usage
from billing.models import UsageEvent
from billing.selectors import (
    UsageSummary,
    check_ledger,
    ledger_balance,
    recent_requests,
    usage_summary,
)
from tests.billing.factory import STARTED_AT, Tenant, make_price, make_report

DAY = timedelta(days=1)
START = datetime(2026, 3, 1, tzinfo=UTC)
END = START + 3 * DAY
COST = 260


@pytest.fixture
def usage(tenant: Tenant, stranger: Tenant) -> None:
    """Two requests on 1 March, one on 3 March, one a microsecond too late; and a stranger's."""
    make_price()
    make_price("dear", rates=(50_000_000, 0, 0))
    record_usage(
        [
            make_report(tenant, cached_tokens=0, started_at=START.timestamp()),
            make_report(tenant, status="failed"),
            make_report(tenant, model="dear", started_at=(STARTED_AT + 2 * DAY).timestamp()),
            make_report(tenant, started_at=END.timestamp()),
            make_report(stranger, prompt_tokens=7777),
        ]
    )


@pytest.mark.usefixtures("usage")
def test_summary_of_a_half_open_period(tenant: Tenant) -> None:
    summary = usage_summary(tenant.organization, START, END)
    assert summary == UsageSummary(3, 300, 30, 0, COST + 5000)
    assert usage_summary(tenant.organization, END, END + DAY).requests == 1
    assert usage_summary(tenant.organization, START - DAY, START) == UsageSummary()


@pytest.mark.usefixtures("usage")
def test_recent_requests_are_ones_own_newest_first_in_four_queries(
    tenant: Tenant, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(4):  # and no more, however many rows
        rows = list(recent_requests(tenant.organization))
        assert {row.project.name for row in rows} == {"Default project"}
        assert {row.api_key.name for row in rows if row.api_key} == {"Key"}
        assert {row.price.model for row in rows if row.price} == {"test-model", "dear"}
    assert len(rows) == 4
    assert rows == sorted(rows, key=lambda row: row.started_at, reverse=True)
    assert {row.organization_id for row in rows} == {tenant.organization.pk}
    assert recent_requests(tenant.organization, START, END).count() == 3


@pytest.mark.usefixtures("usage")
def test_balance_is_the_cost_of_all_usage(tenant: Tenant, stranger: Tenant) -> None:
    assert ledger_balance(tenant.organization) == 2 * COST + 5000
    assert ledger_balance(stranger.organization) == 7777 * 2 + 60


@pytest.mark.usefixtures("usage")
def test_a_sound_ledger_passes_the_command() -> None:
    output = StringIO()
    call_command("check_ledger", stdout=output)
    assert "sound" in output.getvalue()


# How each kind of damage is done by somebody who switched the triggers off.
DAMAGE = {
    "do not sum to zero": "UPDATE billing_ledgerentry SET amount_micros = 1 WHERE id = {entry}",
    "without entries": "DELETE FROM billing_ledgerentry WHERE transaction_id = {posting}",
    "another organization than": (
        "UPDATE billing_ledgerentry SET organization_id = {other} WHERE id = {entry}"
    ),
    "was not posted": (
        "DELETE FROM billing_ledgerentry WHERE transaction_id = {posting};"
        "DELETE FROM billing_ledgertransaction WHERE id = {posting}"
    ),
    "without usage": (
        "UPDATE billing_ledgertransaction SET usage_event_id = NULL WHERE id = {posting}"
    ),
    "is not the cost": "UPDATE billing_usageevent SET cost_micros = 9 WHERE id = {event}",
}


@pytest.mark.usefixtures("usage")
@pytest.mark.parametrize(("sentence", "sql"), DAMAGE.items(), ids=DAMAGE)
def test_damage_behind_the_triggers_is_found(
    tenant: Tenant, stranger: Tenant, sentence: str, sql: str
) -> None:
    posting = (
        UsageEvent.objects.filter(organization=tenant.organization)
        .latest("cost_micros")
        .ledger_transaction
    )
    entry = posting.entries.get(account="receivable")
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        for table in ("billing_usageevent", "billing_ledgertransaction", "billing_ledgerentry"):
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        cursor.execute(
            sql.format(
                entry=entry.pk,
                posting=posting.pk,
                event=posting.usage_event_id,
                other=stranger.organization.pk,
            )
        )
    problems = check_ledger()
    assert any(sentence in problem for problem in problems), problems
    with pytest.raises(CommandError, match=sentence):
        call_command("check_ledger")
