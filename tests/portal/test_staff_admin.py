"""The staff admin: open to staff only, quick, and every change leaves an audit row."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from billing.models import LedgerEntry, LedgerTransaction, Price, RejectedReport, UsageEvent
from inference.models import Deployment, Model, ModelAlias, ModelVersion, Replica
from tenants import actions
from tenants.models import AuditEvent, Organization, Plan, User
from tests.cast import PASSWORD, Cast, make_user
from tests.portal.conftest import log_in

pytestmark = pytest.mark.django_db
REGISTERED = sorted(admin.site._registry, key=lambda model: model._meta.label)


def admin_url(model: Any, page: str, *args: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


@pytest.fixture
def populated(cast: Cast) -> Cast:
    """At least one row behind every page."""
    model = Model.objects.create(name="smol", kind="chat")
    ModelAlias.objects.create(name="gpt-smol", model=model)
    version = ModelVersion.objects.create(
        model=model, version="1", source_uri="pypi://x", max_context_tokens=2048
    )
    deployment = Deployment.objects.create(name="smol-local", version=version)
    Replica.objects.create(
        name="r1",
        deployment=deployment,
        last_heartbeat_at=timezone.now() - timedelta(seconds=3),
    )
    price = Price.objects.create(
        model="smol",
        input_micros_per_million=100_000,
        cached_input_micros_per_million=50_000,
        output_micros_per_million=400_000,
    )
    event = UsageEvent.objects.create(
        request_id="req_1",
        organization=cast.organization,
        project=cast.project,
        api_key=cast.owner_api_key,
        model="smol",
        endpoint="chat.completions",
        status="completed",
        source="gateway",
        prompt_tokens=10,
        completion_tokens=5,
        started_at=timezone.now(),
        duration_ms=100,
        price=price,
        cost_micros=3,
    )
    posting = LedgerTransaction.objects.create(
        organization=cast.organization,
        kind="credit",  # of usage, posting and entries come in one statement
        reference="req_1",
        usage_event=event,
    )
    LedgerEntry.objects.bulk_create(
        LedgerEntry(
            transaction=posting,
            organization=cast.organization,
            account=account,
            amount_micros=sum_,
        )
        for account, sum_ in (("receivable", 3), ("revenue", -3))
    )
    RejectedReport.objects.create(
        digest="d" * 64,
        request_id="req_rejected",
        reason="unknown organization",
        raw=msgspec.msgpack.encode(["req_rejected", "<b>acme</b>"]),
    )
    return cast


@pytest.mark.parametrize("model", REGISTERED, ids=lambda model: model._meta.label)
def test_every_page_opens_for_staff_and_no_one_else(populated: Cast, model: Any) -> None:
    client = log_in(populated.staff)
    listing = client.get(admin_url(model, "changelist"))
    assert listing.status_code == 200
    assert client.get(admin_url(model, "changelist"), {"q": "x"}).status_code == 200
    may_add = admin.site._registry[model].has_add_permission(listing.wsgi_request)
    assert client.get(admin_url(model, "add")).status_code == (200 if may_add else 403)
    first = model._default_manager.first()
    if first is not None:
        change = admin_url(model, "change", first.pk)
        assert client.get(change).status_code == 200
        assert log_in(populated.owner).get(change, follow=True).status_code == 403
    refused = log_in(populated.owner).get(admin_url(model, "changelist"), follow=True)
    assert refused.status_code == 403
    assert Client().get(admin_url(model, "changelist")).status_code == 302


def test_what_must_be_here_is_here() -> None:
    names = {model._meta.label for model in REGISTERED}
    assert names >= {
        "tenants.Organization",
        "tenants.User",
        "tenants.ApiKey",
        "tenants.Plan",
        "tenants.AuditEvent",
        "inference.Model",
        "inference.ModelAlias",
        "inference.ModelVersion",
        "inference.Deployment",
        "inference.Replica",
        "billing.Price",
        "billing.UsageEvent",
        "billing.LedgerTransaction",
        "billing.LedgerEntry",
        "billing.RejectedReport",
    }
    foreign = {"auth", "account", "mfa", "socialaccount", "usersessions"}
    assert not foreign & {name.partition(".")[0] for name in names}


def test_staff_log_in_where_everybody_does(cast: Cast) -> None:
    assert Client().get("/admin/login/")["Location"].startswith("/accounts/login/")
    client = Client()
    client.post(
        "/accounts/login/?next=/admin/",
        {"login": cast.staff.email, "password": PASSWORD},
    )
    assert client.get("/admin/").status_code == 200


def test_suspend_and_restore_ask_first(cast: Cast) -> None:
    client = log_in(cast.staff)
    action = f"/admin/tenants/organization/{cast.organization.pk}/suspend"
    page = client.get(f"{action}/")
    assert "refused within a second" in page.content.decode()
    cast.organization.refresh_from_db()
    assert not cast.organization.is_suspended
    client.post(f"{action}/", {"reason": "Unpaid invoice"})
    cast.organization.refresh_from_db()
    assert cast.organization.suspended_reason == "Unpaid invoice"
    event = AuditEvent.objects.filter(organization=cast.organization).latest("pk")
    assert (event.action, event.acting_user) == ("organization.suspended", cast.staff)
    client.post(f"{action.replace('suspend', 'restore')}/")
    cast.organization.refresh_from_db()
    assert not cast.organization.is_suspended


def test_bulk_suspend(cast: Cast) -> None:
    client = log_in(cast.staff)
    data = {"action": "suspend_selected", "_selected_action": [cast.organization.pk]}
    client.post(admin_url(Organization, "changelist"), data)
    cast.organization.refresh_from_db()
    assert cast.organization.is_suspended
    assert AuditEvent.objects.filter(
        action="organization.suspended",
        acting_user=cast.staff,
        organization=cast.organization,
    ).exists()


def test_revoke_a_key(cast: Cast) -> None:
    client = log_in(cast.staff)
    confirm = f"/admin/tenants/apikey/{cast.owner_api_key.pk}/revoke/"
    assert client.get(confirm).status_code == 200
    assert log_in(cast.owner).post(confirm, follow=True).status_code == 403
    cast.owner_api_key.refresh_from_db()
    assert cast.owner_api_key.is_live
    client.post(confirm)
    cast.owner_api_key.refresh_from_db()
    assert not cast.owner_api_key.is_live


def test_no_page_shows_a_digest_or_offers_a_new_key(cast: Cast) -> None:
    html = (
        log_in(cast.staff)
        .get(admin_url(type(cast.owner_api_key), "change", cast.owner_api_key.pk))
        .content.decode()
    )
    assert cast.owner_api_key.lookup not in html
    assert bytes(cast.owner_api_key.secret_hmac).hex() not in html
    assert "secret_hmac" not in html


def organization_form(organization: Organization, **changes: Any) -> dict[str, Any]:
    return {
        "name": organization.name,
        "plan": organization.plan_id,
        "screening_policy": organization.screening_policy,
        "response_cache_ttl_s": organization.response_cache_ttl_s,
        "semantic_cache": organization.semantic_cache,
        "semantic_cache_ttl_s": organization.semantic_cache_ttl_s,
        "answers_kept_days": organization.answers_kept_days,
        "region": "",
    } | changes


def test_changing_an_organization_is_audited_with_both_values(cast: Cast) -> None:
    form = organization_form(cast.organization, name="Acme Inc")
    changed = log_in(cast.staff).post(admin_url(Organization, "change", cast.organization.pk), form)
    assert changed.status_code == 302, changed.context["errors"]
    event = AuditEvent.objects.get(action="organization.updated")
    assert (event.before, event.after) == ({"name": "Acme"}, {"name": "Acme Inc"})
    assert event.acting_user == cast.staff


def test_staff_bring_in_a_customer(cast: Cast) -> None:
    form = {
        "name": "Customer",
        "plan": cast.organization.plan_id,
        "owner": cast.stranger.email,
    }
    added = log_in(cast.staff).post(admin_url(Organization, "add"), form)
    assert added.status_code == 302, added.context["errors"]
    organization = Organization.objects.get(name="Customer")
    assert organization.memberships.get().user == cast.stranger
    assert organization.projects.count() == 1


def test_saving_a_plan_tells_the_gateways(cast: Cast) -> None:
    with connection.cursor() as cursor:
        cursor.execute("LISTEN tenants_changed")
    plan = cast.organization.plan
    form = {
        "name": plan.name,
        "slug": plan.slug,
        "fair_share_weight": 3,
        "is_default": "on",
        "model_limits-TOTAL_FORMS": 1,
        "model_limits-INITIAL_FORMS": 0,
        "model_limits-0-model": "smol",
        "model_limits-0-requests_per_day": 7,
    }
    with CaptureQueriesContext(connection) as queries:
        saved = log_in(cast.staff).post(admin_url(Plan, "change", plan.pk), form)
    assert saved.status_code == 302, saved.context["errors"]
    plan.refresh_from_db()
    assert plan.fair_share_weight == 3
    assert plan.model_limits.get().requests_per_day == 7
    assert AuditEvent.objects.filter(action="staff.planmodellimit.created").count() == 1
    assert any("pg_notify('tenants_changed'" in query["sql"] for query in queries)
    event = AuditEvent.objects.get(action="staff.plan.changed")
    assert event.after["fair_share_weight"] == "3"
    assert event.before["fair_share_weight"] == "1"


def test_saving_the_registry_tells_the_gateways(cast: Cast) -> None:
    with CaptureQueriesContext(connection) as queries:
        form = {
            "name": "new-model",
            "kind": "chat",
            "owned_by": "sluice",
            "is_enabled": "on",
            "aliases-TOTAL_FORMS": 0,
            "aliases-INITIAL_FORMS": 0,
        }
        log_in(cast.staff).post(admin_url(Model, "add"), form)
    model = Model.objects.get(name="new-model")
    assert any("pg_notify('registry_changed'" in query["sql"] for query in queries)
    assert AuditEvent.objects.get(action="staff.model.created").object_id == str(model.pk)
    with CaptureQueriesContext(connection) as queries:
        log_in(cast.staff).post(admin_url(Model, "delete", model.pk), {"post": "yes"})
    assert not Model.objects.filter(name="new-model").exists()
    assert any("pg_notify('registry_changed'" in query["sql"] for query in queries)
    assert AuditEvent.objects.filter(action="staff.model.deleted").count() == 1


def test_a_price_is_added_and_never_altered(populated: Cast) -> None:
    client = log_in(populated.staff)
    price = Price.objects.get()
    form = {
        "model": "smol",
        "effective_from_0": "2030-01-01",
        "effective_from_1": "00:00:00",
        "input_micros_per_million": 1,
        "cached_input_micros_per_million": 1,
        "output_micros_per_million": 1,
        "priority_percent": "175",
        "flex_percent": "50",
        "batch_percent": "50",
    }
    assert client.post(admin_url(Price, "change", price.pk), form).status_code == 403
    assert client.post(admin_url(Price, "delete", price.pk), {"post": "yes"}).status_code == 403
    added = client.post(admin_url(Price, "add"), form)
    assert added.status_code == 302, added.context["errors"]
    assert Price.objects.count() == 2
    assert AuditEvent.objects.filter(action="staff.price.created").exists()


def test_changing_a_password_is_audited_without_it(cast: Cast) -> None:
    client = log_in(cast.staff)
    url = f"/admin/tenants/user/{cast.viewer.pk}/password/"
    assert client.get(url).status_code == 200
    new = {"password1": "quite another phrase", "password2": "quite another phrase"}
    client.post(url, new | {"usable_password": "true"})
    cast.viewer.refresh_from_db()
    assert cast.viewer.check_password("quite another phrase")
    event = AuditEvent.objects.get(action="staff.user.password_changed")
    assert "phrase" not in str(event.before) + str(event.after)


def test_add_a_user(cast: Cast) -> None:
    form = {
        "email": "Fresh@Example.com",
        "name": "Fresh",
        "usable_password": "true",
        "password1": "quite another phrase",
        "password2": "quite another phrase",
    }
    added = log_in(cast.staff).post(admin_url(User, "add"), form)
    assert added.status_code == 302, added.context["errors"]
    assert User.objects.get(email="fresh@example.com").check_password("quite another phrase")
    event = AuditEvent.objects.get(action="staff.user.created")
    assert "phrase" not in str(event.after)


def test_lesser_staff_cannot_make_themselves_superusers(cast: Cast) -> None:
    from django.contrib.auth.models import Permission

    helper = make_user("helper", is_staff=True)
    helper.user_permissions.set(
        Permission.objects.filter(codename__in=["view_user", "change_user"])
    )
    client = log_in(helper)
    form = {"email": helper.email, "name": "", "is_active": "on", "is_superuser": "on"}
    client.post(admin_url(User, "change", helper.pk), form)
    helper.refresh_from_db()
    assert not helper.is_superuser
    assert helper.user_permissions.count() == 2
    change = f"/admin/tenants/user/{cast.staff.pk}/password/"
    new = {"password1": "quite another phrase", "password2": "quite another phrase"}
    assert client.post(change, new | {"usable_password": "true"}).status_code == 403
    cast.staff.refresh_from_db()
    assert cast.staff.check_password(PASSWORD)


def test_lists_cost_the_same_for_many_rows(cast: Cast) -> None:
    client = log_in(cast.staff)

    def queries(model: Any) -> int:
        with CaptureQueriesContext(connection) as captured:
            client.get(admin_url(model, "changelist"))
        return len(captured)

    for model, add in (
        (
            type(cast.owner_api_key),
            lambda: actions.create_api_key(cast.project, "k", acting_user=None),
        ),
        (
            Organization,
            lambda: actions.create_organization("O", acting_user=cast.owner),
        ),
        (
            AuditEvent,
            lambda: actions.update_organization(
                cast.organization, {"name": "A"}, acting_user=cast.owner
            ),
        ),
    ):
        queries(model)  # the first look at a list in an hour is put on record
        few = queries(model)
        for _ in range(12):
            add()
        assert queries(model) == few, model


def test_rejected_report_is_found_and_read_but_not_changed(populated: Cast) -> None:
    client = log_in(populated.staff)
    listing = admin_url(RejectedReport, "changelist")
    assert "unknown organization" in client.get(listing, {"q": "req_rejected"}).content.decode()
    assert "unknown organization" not in client.get(listing, {"q": "req_1"}).content.decode()
    report = RejectedReport.objects.get()
    change = admin_url(RejectedReport, "change", report.pk)
    page = client.get(change).content.decode()
    assert "[&#x27;req_rejected&#x27;, &#x27;&lt;b&gt;acme&lt;/b&gt;&#x27;]" in page
    assert client.post(change, {"reason": "none"}).status_code == 403
    assert RejectedReport.objects.get().reason == "unknown organization"


def test_rejected_report_that_no_one_can_decode_shows_its_bytes(populated: Cast) -> None:
    report = RejectedReport.objects.create(digest="e" * 64, reason="undecodable", raw=b"\xc1<i>")
    page = log_in(populated.staff).get(admin_url(RejectedReport, "change", report.pk))
    assert "\\xc1&lt;i&gt;" in page.content.decode()
