"""Staff and tenants: everything on one page, changed by the rooms' rules, every look on record."""

from __future__ import annotations

from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from billing.models import LedgerTransaction
from tenants import actions, audit_rows
from tenants.models import (
    ApiKey,
    AuditEvent,
    CustomRole,
    Group,
    IdentityProvider,
    Invitation,
    Membership,
    Organization,
    Plan,
    Project,
    Role,
    ServiceAccount,
)
from tests.cast import Cast, make_user
from tests.portal.conftest import log_in
from tests.portal.staff_pages import url

pytestmark = pytest.mark.django_db


# --- One page ------------------------------------------------------------------------------


def test_one_page_has_everything_and_no_secret(
    cast: Cast, inhabited: Organization, staff: Client
) -> None:
    page = unescape(staff.get(url(Organization, "change", inhabited.pk)).content.decode())

    for text in (
        cast.member.email, "Default project", cast.owner_api_key.name, "The program",
        "guest@example.com", "The group", "The role", "The provider", "organization.created",
        "Granted", "Grant credit",
    ):  # fmt: skip
        assert text.lower() in page.lower(), text
    assert cast.owner_api_key.lookup not in page
    assert Invitation.objects.get().token_digest not in page


def test_the_page_costs_the_same_however_much_there_is(cast: Cast, staff: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert staff.get(url(Organization, "change", cast.organization.pk)).status_code == 200
        return len(captured)

    queries()
    few = queries()
    for number in range(12):
        actions.create_api_key(cast.project, f"K{number}", acting_user=cast.owner)
        user = make_user(f"more{number}")
        Membership.objects.create(organization=cast.organization, user=user, role=Role.VIEWER)
        actions.create_project(cast.organization, f"P{number}", acting_user=cast.owner)
    assert queries() == few < 40


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


def test_limits_of_its_own_only_where_the_plan_allows_them(cast: Cast, staff: Client) -> None:
    change = url(Organization, "change", cast.organization.pk)
    staff.post(change, organization_form(cast.organization, requests_per_day=5))
    cast.organization.refresh_from_db()
    assert cast.organization.requests_per_day is None

    Plan.objects.update(allows_custom_limits=True)
    saved = staff.post(change, organization_form(cast.organization, requests_per_day=5))
    assert saved.status_code == 302
    cast.organization.refresh_from_db()
    assert cast.organization.requests_per_day == 5
    event = AuditEvent.objects.get(action="organization.updated")
    assert (event.before, event.after) == ({"requests_per_day": "None"}, {"requests_per_day": "5"})


# --- Members -------------------------------------------------------------------------------


def test_staff_add_change_and_remove_members_by_the_portals_rules(
    cast: Cast, staff: Client
) -> None:
    form = {"organization": cast.organization.pk, "user": cast.stranger.pk, "role": Role.VIEWER}
    assert staff.post(url(Membership, "add"), form).status_code == 302
    membership = Membership.objects.get(organization=cast.organization, user=cast.stranger)
    staff.post(url(Membership, "change", membership.pk), {"role": Role.ADMIN})
    membership.refresh_from_db()
    assert membership.role == Role.ADMIN
    staff.post(url(Membership, "delete", membership.pk), {"post": "yes"})

    assert not Membership.objects.filter(pk=membership.pk).exists()
    events = AuditEvent.objects.filter(object_id=cast.stranger.public_id).order_by("number")
    told = [(event.action, event.actor_type) for event in events if event.organization_id]
    assert told[-3:] == [
        ("member.added", "staff"), ("member.changed", "staff"), ("member.removed", "staff"),
    ]  # fmt: skip


def test_staff_cannot_take_the_last_owner_away(cast: Cast, staff: Client) -> None:
    owner = Membership.objects.get(organization=cast.organization, user=cast.owner)
    page = staff.post(url(Membership, "delete", owner.pk), {"post": "yes"}, follow=True)
    assert "needs an owner" in page.content.decode()
    staff.post(url(Membership, "change", owner.pk), {"role": Role.VIEWER})

    owner.refresh_from_db()
    assert owner.role == Role.OWNER


# --- Keys, service accounts, providers -----------------------------------------------------


def test_a_key_is_suspended_and_restored(cast: Cast, staff: Client) -> None:
    where = f"/admin/tenants/apikey/{cast.owner_api_key.pk}"
    assert staff.get(f"{where}/suspend/").status_code == 200
    staff.post(f"{where}/suspend/", {"reason": "Leaked"})
    cast.owner_api_key.refresh_from_db()
    assert not cast.owner_api_key.is_live and cast.owner_api_key.suspended_reason == "Leaked"
    assert "Suspended" in staff.get(url(ApiKey, "changelist")).content.decode()
    staff.post(f"{where}/restore/")
    cast.owner_api_key.refresh_from_db()
    assert cast.owner_api_key.is_live
    for verb in ("suspend", "restore", "revoke"):
        assert log_in(cast.owner).post(f"{where}/{verb}/", follow=True).status_code == 403


def test_keys_are_revoked_together(cast: Cast, staff: Client) -> None:
    chosen = [cast.stranger_api_key.pk, cast.owner_api_key.pk]
    staff.post(url(ApiKey, "changelist"), {"action": "revoke_selected", "_selected_action": chosen})
    assert ApiKey.objects.filter(pk__in=chosen, revoked_at=None).count() == 0


def test_a_service_account_is_deleted_with_its_keys(
    cast: Cast, inhabited: Organization, staff: Client
) -> None:
    account = ServiceAccount.objects.get()
    key, _ = actions.create_api_key(account, "K", acting_user=cast.owner)
    staff.post(f"/admin/tenants/serviceaccount/{account.pk}/remove/")

    key.refresh_from_db()
    account.refresh_from_db()
    assert account.deleted_at and key.revoked_at


def test_staff_verify_domains(cast: Cast, inhabited: Organization, staff: Client) -> None:
    provider = IdentityProvider.objects.get()
    where = f"/admin/tenants/identityprovider/{provider.pk}/verify/"
    assert "acme.example" in staff.get(where).content.decode()
    staff.post(where, {"domains": "ACME.example\n"})
    provider.refresh_from_db()
    assert provider.verified_domains == ["acme.example"]
    assert AuditEvent.objects.get(action="sso.domains_verified").actor_type == "staff"
    page = staff.post(where, {"domains": "nonsense!"}, follow=True)
    assert "is no domain name" in page.content.decode()
    provider.refresh_from_db()
    assert provider.verified_domains == ["acme.example"]


@pytest.mark.parametrize("model", [Invitation, Group, CustomRole, Project, IdentityProvider])
def test_what_is_only_looked_at_cannot_be_changed(
    cast: Cast, inhabited: Organization, staff: Client, model: Any
) -> None:
    row = model.objects.first()
    assert staff.get(url(model, "change", row.pk)).status_code == 200
    assert staff.post(url(model, "change", row.pk), {"name": "X"}).status_code == 403
    assert staff.post(url(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    assert model.objects.filter(pk=row.pk).exists()


# --- Credit --------------------------------------------------------------------------------


def grant_form(page: Any, **changes: Any) -> dict[str, Any]:
    return {
        "reference": page.context["form"].initial["reference"],
        "dollars": "25.5",
        "reason": "Goodwill",
    } | changes


def test_credit_is_granted_once_however_often_it_is_sent(cast: Cast, staff: Client) -> None:
    button = staff.get(f"/admin/tenants/organization/{cast.organization.pk}/grant-credit/")
    page = staff.get(button["Location"])
    assert "$0.000000" in page.content.decode()
    form = grant_form(page)
    staff.post(button["Location"], form)
    again = staff.post(button["Location"], form, follow=True)

    assert "granted before" in again.content.decode()
    cast.organization.refresh_from_db()
    assert cast.organization.credit_granted_micros == 25_500_000
    assert LedgerTransaction.objects.filter(kind="credit").count() == 1
    event = AuditEvent.objects.get(action="credit.granted")
    assert (event.acting_user, event.actor_type) == (cast.staff, "staff")


@pytest.mark.parametrize(
    "changes", [{"dollars": "0"}, {"dollars": "x"}, {"dollars": "NaN"}, {"dollars": "-1"},
                {"dollars": "0.0000001"}, {"reason": ""}]
)  # fmt: skip
def test_a_wrong_grant_grants_nothing(cast: Cast, staff: Client, changes: Any) -> None:
    where = reverse("admin:billing_grant_credit", args=[cast.organization.pk])
    staff.post(where, grant_form(staff.get(where), **changes))

    cast.organization.refresh_from_db()
    assert cast.organization.credit_granted_micros == 0
    assert not LedgerTransaction.objects.exists()


def test_credit_needs_a_permission_of_its_own(cast: Cast) -> None:
    helper = make_user("helper", is_staff=True)
    helper.user_permissions.set(Permission.objects.filter(codename="change_organization"))
    where = reverse("admin:billing_grant_credit", args=[cast.organization.pk])

    assert log_in(helper).get(where).status_code == 403
    assert log_in(cast.owner).get(where, follow=True).status_code == 403
    assert log_in(cast.staff).get(reverse("admin:billing_grant_credit", args=[2**40])).status_code == 404  # fmt: skip


# --- The trail -----------------------------------------------------------------------------


def test_a_chain_is_verified_from_its_organizations_page(cast: Cast, staff: Client) -> None:
    where = f"/admin/tenants/organization/{cast.organization.pk}/verify-chain/"
    staff.get(where)
    page = staff.post(where, follow=True).content.decode()
    assert "The chain is whole" in page
    assert str(audit_rows.get_head(cast.organization.pk)) in page
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE tenants_auditevent DISABLE TRIGGER USER")
        cursor.execute("UPDATE tenants_auditevent SET action = 'x' WHERE number = 1")
    event = AuditEvent.objects.filter(organization=cast.organization).latest("pk")
    page = staff.post(f"/admin/tenants/auditevent/{event.pk}/verify/", follow=True)
    assert "row 1 (action)" in page.content.decode()
