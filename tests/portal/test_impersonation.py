"""Staff look at an organization's portal: on record, for a while, changing nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tenants import impersonation
from tenants.models import ApiKey, AuditEvent, Membership, Organization, Role, User
from tests.cast import Cast, make_user
from tests.portal.conftest import log_in

pytestmark = pytest.mark.django_db
REASON = "Ticket 4711: the usage page is empty"


def look_url(organization: Organization) -> str:
    return f"/admin/tenants/organization/{organization.pk}/look/"


def page(organization: Organization, rest: str = "") -> str:
    return f"/o/{organization.public_id}/{rest}"


def looking(cast: Cast, user: User | None = None) -> Client:
    """A client whose session looks at Acme."""
    client = log_in(user or cast.staff)
    answer = client.post(look_url(cast.organization), {"reason": REASON})
    assert answer.headers["Location"] == page(cast.organization)
    return client


def events(organization: Organization, action: str) -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(organization=organization, action=action).order_by("pk"))


def test_staff_see_what_the_owner_sees_under_a_banner(cast: Cast) -> None:
    client = log_in(cast.staff)
    assert client.get(page(cast.organization)).status_code == 404
    client = looking(cast)

    for rest in ("", "keys/", "usage/", "members/", "projects/", "audit/", "settings/"):
        answer = client.get(page(cast.organization, rest))
        assert answer.status_code == 200, rest
        assert "Nothing can be changed" in answer.content.decode(), rest
    assert client.get(page(cast.other_organization)).status_code == 404
    keys = client.get(page(cast.organization, "keys/")).content.decode()
    assert cast.owner_key not in keys and "Owner&#x27;s key" in keys


def test_the_look_and_each_page_stand_in_the_organizations_own_trail(cast: Cast) -> None:
    client = looking(cast)
    client.get(page(cast.organization, "keys/"))
    client.get(page(cast.organization, "no-such-page/"))
    client.post(reverse("impersonation_end"))

    [began] = events(cast.organization, "staff.look_began")
    assert began.after["reason"] == REASON and began.acting_user == cast.staff
    looked = events(cast.organization, "staff.looked")
    assert [each.after["page"] for each in looked] == [page(cast.organization, "keys/")]
    assert {each.actor_type for each in (began, *looked)} == {"staff"}
    assert events(cast.organization, "staff.look_ended")[0].after == {"how": "by hand"}
    trail = log_in(cast.owner).get(page(cast.organization, "audit/")).content.decode()
    assert "Staff looked at a page" in trail and REASON in trail
    assert cast.staff.email not in trail


@pytest.mark.parametrize(
    "rest",
    ["keys/new/", "settings/", "members/invite/", "projects/new/", "playground/tickets/"],
)
def test_nothing_can_be_posted_on_the_portal(cast: Cast, rest: str) -> None:
    client = looking(cast)
    before = AuditEvent.objects.count(), ApiKey.objects.count()
    answer = client.post(page(cast.organization, rest), {"name": "Mine"})

    assert answer.status_code == 403
    assert "nothing can be changed" in answer.content.decode()
    assert (AuditEvent.objects.count(), ApiKey.objects.count()) == before


def test_nothing_can_be_posted_elsewhere_by_this_session(cast: Cast) -> None:
    client = looking(cast)
    suspend = f"/admin/tenants/organization/{cast.other_organization.pk}/suspend/"
    assert client.post(suspend, {"reason": "x"}).status_code == 403
    assert client.post("/accounts/profile/", {"name": "x"}).status_code == 403
    for method in ("post", "delete", "put", "patch"):
        call = getattr(client, method)
        answer = call("/v1/organization/projects", {"name": "x"}, "application/json")
        assert answer.status_code == 403, method
        assert answer.json()["error"]["code"] == "insufficient_permissions"
    cast.other_organization.refresh_from_db()
    assert not cast.other_organization.is_suspended


def test_the_button_and_the_log_out_end_it(cast: Cast) -> None:
    client = looking(cast)
    assert client.post(reverse("impersonation_end")).status_code == 302
    assert client.get(page(cast.organization)).status_code == 404
    assert client.post(reverse("impersonation_end")).status_code == 302
    client = looking(cast)
    client.post(reverse("account_logout"))
    assert len(events(cast.organization, "staff.look_ended")) == 2


def test_it_ends_after_half_an_hour(cast: Cast) -> None:
    client = looking(cast)
    session = client.session
    look = session["impersonation"]
    assert timedelta(minutes=29) < impersonation.Look(**look).ends_at - timezone.now()
    session["impersonation"] = look | {"until": timezone.now().timestamp() - 1}
    session.save()
    answer = client.get(page(cast.organization, "keys/"), follow=True)

    assert "has ended" in answer.content.decode()
    assert client.get(page(cast.organization)).status_code == 404
    assert events(cast.organization, "staff.look_ended")[0].after == {"how": "time was up"}
    assert events(cast.organization, "staff.looked") == []


def test_it_ends_with_the_permission(cast: Cast) -> None:
    helper = make_user("helper", is_staff=True)
    helper.user_permissions.set(
        Permission.objects.filter(codename__in=["view_organization", "look_into_organization"])
    )
    client = looking(cast, helper)
    assert client.get(page(cast.organization)).status_code == 200
    helper.user_permissions.clear()
    assert client.get(page(cast.organization), follow=True).status_code in (200, 404)
    assert client.get(page(cast.organization)).status_code == 404


def begin(cast: Cast, user: User, **data: Any) -> Any:
    return log_in(user).post(look_url(cast.organization), {"reason": REASON} | data, follow=True)


def test_who_may_not_look_is_refused(cast: Cast) -> None:
    helper = make_user("helper", is_staff=True)
    helper.user_permissions.set(
        Permission.objects.filter(codename__in=["view_organization", "change_organization"])
    )
    for user in (helper, cast.owner, cast.stranger):
        assert begin(cast, user).status_code == 403
    assert begin(cast, cast.staff, reason="  hm  ").status_code == 200
    assert events(cast.organization, "staff.look_began") == []


def test_nobody_looks_over_a_colleagues_shoulder(cast: Cast) -> None:
    colleague = make_user("colleague", is_staff=True)
    Membership.objects.create(organization=cast.organization, user=colleague, role=Role.VIEWER)
    assert "Other staff belong" in begin(cast, cast.staff).content.decode()
    assert events(cast.organization, "staff.look_began") == []
    assert not Membership.objects.filter(user=cast.staff).exists()


def test_a_session_taken_over_by_another_account_looks_at_nothing(cast: Cast) -> None:
    client = looking(cast)
    session = client.session
    session["impersonation"] |= {"user": cast.owner.pk}
    session.save()
    assert client.get(page(cast.organization)).status_code == 404
