"""Granted credit: posted once, balanced, and its copy for admission never apart from it."""

from __future__ import annotations

import threading

import pytest
from django.db import connection

from billing.actions import record_usage
from billing.credit import MAX_GRANT_MICROS, grant_credit
from billing.models import LedgerEntry, LedgerTransaction
from billing.selectors import check_ledger, ledger_balance
from tenants.actions import CHANNEL
from tenants.errors import AlreadyDone, InvalidInput
from tenants.models import AuditEvent, Organization
from tests.billing.factory import Tenant, make_price, make_report, make_tenant


def grant(tenant: Tenant, amount_micros: int, reference: str = "grant_1") -> LedgerTransaction:
    return grant_credit(
        tenant.organization, amount_micros, reference=reference, reason="Goodwill", acting_user=None
    )


def granted(tenant: Tenant) -> int:
    return Organization.objects.get(pk=tenant.organization.pk).credit_granted_micros


def test_a_grant_lowers_what_is_owed_and_raises_what_may_be_spent(tenant: Tenant) -> None:
    make_price()
    record_usage([make_report(tenant)])
    owed = ledger_balance(tenant.organization)
    posting = grant(tenant, 5_000_000)

    assert ledger_balance(tenant.organization) == owed - 5_000_000
    assert granted(tenant) == tenant.organization.credit_granted_micros == 5_000_000
    sides = {entry.account: entry.amount_micros for entry in posting.entries.all()}
    assert sides == {"granted": 5_000_000, "receivable": -5_000_000}
    assert check_ledger() == []
    event = AuditEvent.objects.get(action="credit.granted")
    assert (event.before, event.after["credit_granted_micros"]) == (
        {"credit_granted_micros": 0}, 5_000_000,
    )  # fmt: skip
    assert event.after["reason"] == "Goodwill"


def test_the_same_grant_twice_is_granted_once(tenant: Tenant) -> None:
    grant(tenant, 1_000_000)
    with pytest.raises(AlreadyDone):
        grant(tenant, 1_000_000)

    assert granted(tenant) == 1_000_000
    assert LedgerTransaction.objects.filter(kind="credit").count() == 1
    assert AuditEvent.objects.filter(action="credit.granted").count() == 1


def test_a_grant_is_taken_back_by_another_posting_and_never_below_nothing(tenant: Tenant) -> None:
    grant(tenant, 1_000_000)
    grant(tenant, -400_000, "grant_2")
    assert granted(tenant) == 600_000
    assert AuditEvent.objects.filter(action="credit.taken_back").count() == 1

    with pytest.raises(InvalidInput):
        grant(tenant, -600_001, "grant_3")
    assert granted(tenant) == 600_000
    assert LedgerEntry.objects.count() == 4
    assert check_ledger() == []


@pytest.mark.parametrize("amount", [0, MAX_GRANT_MICROS + 1, -MAX_GRANT_MICROS - 1])
def test_an_amount_that_makes_no_sense_is_refused(tenant: Tenant, amount: int) -> None:
    with pytest.raises(InvalidInput) as refusal:
        grant(tenant, amount)
    assert refusal.value.param == "amount" and not LedgerTransaction.objects.exists()


@pytest.mark.parametrize("reason", ["", "  ", "x" * 201, "two\nlines", "\0"])
def test_a_grant_says_why(tenant: Tenant, reason: str) -> None:
    with pytest.raises(InvalidInput):
        grant_credit(tenant.organization, 1, reference="r", reason=reason, acting_user=None)
    assert not LedgerTransaction.objects.exists()


def test_check_ledger_finds_credit_that_no_posting_explains(
    tenant: Tenant, stranger: Tenant
) -> None:
    grant(tenant, 1_000_000)
    Organization.objects.filter(pk=stranger.organization.pk).update(credit_granted_micros=1)

    (problem,) = check_ledger()
    assert "granted credit" in problem and stranger.organization.public_id in problem


def test_the_gateways_are_told(tenant: Tenant, django_assert_num_queries: object) -> None:
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as queries:
        grant(tenant, 1_000_000)
    assert any(f"pg_notify('{CHANNEL}'" in query["sql"] for query in queries)


@pytest.mark.django_db(transaction=True)
def test_grants_at_once_are_all_counted_and_one_reference_once() -> None:
    tenant = make_tenant()
    start, outcomes = threading.Barrier(8), []

    def work(number: int) -> None:
        try:
            start.wait()
            grant(Tenant(Organization.objects.get(pk=tenant.organization.pk), None, None),  # type: ignore[arg-type]
                  1_000, f"grant_{number // 2}")  # fmt: skip
            outcomes.append("granted")
        except AlreadyDone:
            outcomes.append("refused")
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["granted"] * 4 + ["refused"] * 4
    assert granted(tenant) == 4_000
    assert check_ledger() == []
