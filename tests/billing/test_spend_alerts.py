"""Alerts and budgets: told once a month, by mail and webhook, and to nobody else."""

from __future__ import annotations

import time
from datetime import date
from typing import Any

import pytest
from django.core import mail as outgoing

from billing.actions import record_usage
from billing.models import SpendNotice
from billing.spend_alerts import AlertTerms, create_spend_alert, update_spend_alert
from billing.spend_watch import check_spend
from tenants import actions
from tenants.errors import InvalidInput
from tenants.models import Job, Project, WebhookEvent
from tests.billing.factory import Tenant, make_price, make_report
from tests.jobs import run_due_jobs

pytestmark = pytest.mark.django_db
COST = 260  # micro-dollars of one report


@pytest.fixture(autouse=True)
def priced(db: None) -> None:
    make_price()


def spend(tenant: Tenant, requests: int = 1, **changes: Any) -> None:
    now = {"started_at": time.time(), "cached_tokens": 0} | changes
    record_usage([make_report(tenant, **now) for _ in range(requests)])


def alert_of(tenant: Tenant, micros: int, project: Project | None = None, **more: Any) -> Any:
    terms = AlertTerms(micros, ("cfo@example.com", "ops@example.com"), **more)
    return create_spend_alert(tenant.organization, project, terms, acting_user=None)


def listen(tenant: Tenant) -> None:
    events = ("budget.threshold_reached", "budget.exceeded")
    terms = actions.EndpointTerms("https://hooks.example.com/", events)
    actions.create_webhook(tenant.organization, terms, acting_user=None)


def test_a_threshold_is_told_once_a_month(tenant: Tenant, stranger: Tenant) -> None:
    listen(tenant)
    alert = alert_of(tenant, 2 * COST, subject_prefix="[LLM]")
    alert_of(stranger, 1)
    spend(tenant)
    assert check_spend() == 0
    spend(tenant)
    assert check_spend() == 1
    assert check_spend() == 0
    Job.objects.filter(kind="webhook.delivery").delete()
    assert run_due_jobs() == ["succeeded"] * 2
    assert [message.to for message in outgoing.outbox] == [["cfo@example.com"], ["ops@example.com"]]
    assert outgoing.outbox[0].subject.startswith("[LLM] Acme has spent $0.00")
    event = WebhookEvent.objects.get()
    assert event.type == "budget.threshold_reached"
    assert event.data == {
        "id": alert.public_id,
        "project_id": None,
        "month": f"{date.today():%Y-%m}",
        "limit_micros": 2 * COST,
        "spent_micros": 2 * COST,
    }
    # A new month is told anew, and another threshold in this one.
    SpendNotice.objects.update(month=date(2020, 1, 1))
    assert check_spend() == 1
    terms = AlertTerms(COST, ("cfo@example.com",))
    update_spend_alert(alert, terms, acting_user=None)
    assert check_spend() == 1


def test_a_projects_alert_counts_its_own_costs(tenant: Tenant) -> None:
    other = actions.create_project(tenant.organization, "Other", acting_user=None)
    alert_of(tenant, COST, other)
    spend(tenant, 3)
    assert check_spend() == 0
    spend(tenant, project=other.pk)
    assert check_spend() == 1
    assert SpendNotice.objects.get().project == other


def test_a_budget_that_is_used_up_is_told_to_webhooks(tenant: Tenant) -> None:
    actions.set_spend_limit(tenant.organization, COST, acting_user=None)
    spend(tenant)
    assert check_spend() == 0  # nobody asked
    listen(tenant)
    actions.update_project(tenant.project, {"monthly_budget_micros": COST}, acting_user=None)
    assert check_spend() == 2
    assert check_spend() == 0
    assert [(each.type, each.data["project_id"]) for each in WebhookEvent.objects.order_by("pk")] == [
        ("budget.exceeded", None), ("budget.exceeded", tenant.project.public_id),
    ]  # fmt: skip
    assert outgoing.outbox == []


def test_what_is_rolled_back_with_its_notice_was_not_told(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    alert_of(tenant, COST)
    spend(tenant)

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError

    with monkeypatch.context() as broken:
        broken.setattr("billing.spend_watch.jobs.enqueue", fail)
        with pytest.raises(RuntimeError):
            check_spend()
    assert not SpendNotice.objects.exists()
    assert check_spend() == 1


def test_mail_of_a_day_is_bounded(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("billing.spend_watch.MOST_MAILS_A_DAY", 3)
    for micros in (1, 2, 3):
        alert_of(tenant, micros)
    spend(tenant)
    assert check_spend() == 3
    assert Job.objects.filter(kind="mail.spend_alert").count() == 3


@pytest.mark.parametrize(
    ("terms", "param"),
    [
        (AlertTerms(0, ("a@example.com",)), "threshold_amount"),
        (AlertTerms(10**17, ("a@example.com",)), "threshold_amount"),
        (AlertTerms(1, ()), "notification_channel.recipients"),
        (AlertTerms(1, ("a@example.com\nBcc: b@example.com",)), "notification_channel.recipients"),
        (AlertTerms(1, tuple(f"a{n}@example.com" for n in range(11))),
         "notification_channel.recipients"),
        (AlertTerms(1, ("a@example.com",), "x" * 81), "notification_channel.subject_prefix"),
    ],
)  # fmt: skip
def test_what_is_refused(tenant: Tenant, terms: AlertTerms, param: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        create_spend_alert(tenant.organization, None, terms, acting_user=None)
    assert refusal.value.param == param
