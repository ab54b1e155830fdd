"""Members, invitations, groups and roles on the pages; joining by a link."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tenants import access, actions
from tenants.models import (
    ApiKey,
    AuditEvent,
    CustomRole,
    Group,
    GroupMember,
    Invitation,
    Job,
    Membership,
    RoleAssignment,
    User,
)
from tests.cast import Cast, make_user
from tests.portal.conftest import log_in

pytestmark = pytest.mark.django_db
NEW = {"password1": "a long enough passphrase", "password2": "a long enough passphrase"}


def url(cast: Cast, path: str = "members/") -> str:
    return f"/o/{cast.organization.public_id}/{path}"


def actor(cast: Cast, who: str = "owner") -> access.Actor:
    return access.get_actor(cast.organization.memberships.get(user=getattr(cast, who)))


def people(cast: Cast) -> list[Any]:
    """What a refused attempt must leave as it was."""
    models = (Membership, Invitation, Group, GroupMember, CustomRole, RoleAssignment)
    return [list(model.objects.order_by("pk").values()) for model in models]


def role_of(cast: Cast, user: User) -> str:
    return str(cast.organization.memberships.get(user=user).role)


def test_everybody_sees_who_is_there(cast: Cast) -> None:
    for who in ("owner", "member", "viewer", "billing"):
        page = log_in(getattr(cast, who)).get(url(cast)).content.decode()
        assert cast.admin.email in page
        assert cast.stranger.email not in page
        assert ("members/invite/" in page) == (who == "owner")


def test_members_are_found(cast: Cast) -> None:
    client = log_in(cast.owner)
    found = client.get(url(cast), {"q": "VIEW"}).context["members"].rows
    assert [member.user for member in found] == [cast.viewer]
    assert "Nobody found" in client.get(url(cast), {"q": cast.stranger.email}).content.decode()
    for query in ("\0", "x" * 999, "%", "'"):
        assert client.get(url(cast), {"q": query}).status_code == 200


def test_an_owner_changes_roles(cast: Cast) -> None:
    client = log_in(cast.owner)
    member = url(cast, f"members/{cast.viewer.public_id}/")
    assert "Looks and changes nothing" in client.get(member).content.decode()
    changed = client.post(member, {"role": "admin"}, follow=True).content.decode()
    assert "viewer@example.com is Admin now" in changed
    assert role_of(cast, cast.viewer) == "admin"
    event = AuditEvent.objects.get(action="member.changed")
    assert (event.before, event.after) == ({"role": "viewer"}, {"role": "admin"})
    assert client.post(member, {"role": "emperor"}).status_code == 400


def test_an_admin_reaches_no_owner_and_no_money(cast: Cast) -> None:
    client = log_in(cast.admin)
    before = people(cast)
    for user, role in (
        (cast.owner, "viewer"),
        (cast.viewer, "owner"),
        (cast.viewer, "billing"),
        (cast.billing, "viewer"),
        (cast.admin, "owner"),
    ):
        member = url(cast, f"members/{user.public_id}/")
        assert client.post(member, {"role": role}).status_code == 403, (user, role)
    for user in (cast.owner, cast.billing):
        assert client.post(url(cast, f"members/{user.public_id}/remove/")).status_code == 403
    assert people(cast) == before
    shown = client.get(url(cast, f"members/{cast.viewer.public_id}/")).content.decode()
    assert 'value="owner"' not in shown and 'value="developer"' in shown
    assert (
        "/remove/" not in client.get(url(cast, f"members/{cast.owner.public_id}/")).content.decode()
    )


@pytest.mark.parametrize("who", ["member", "billing", "viewer"])
def test_others_change_nobody(cast: Cast, who: str) -> None:
    invitation, _ = actions.invite_member(
        cast.organization, "new@example.com", "viewer", actor=actor(cast)
    )
    group = actions.create_group(cast.organization, "Science", acting_user=cast.owner)
    actions.add_group_member(group, cast.admin, actor=actor(cast))
    role = actions.create_role(cast.organization, "Reader", ["usage.read"], actor=actor(cast))
    given = actions.assign_role(role, group, actor=actor(cast))
    client = log_in(getattr(cast, who))
    before = people(cast)
    me = getattr(cast, who)
    posts = {
        f"members/{cast.admin.public_id}/": {"role": "viewer"},
        f"members/{me.public_id}/": {"role": "owner"},
        f"members/{cast.admin.public_id}/remove/": {},
        "members/invite/": {"email": "x@example.com", "role": "viewer"},
        f"invitations/{invitation.public_id}/resend/": {},
        f"invitations/{invitation.public_id}/revoke/": {},
        "groups/new/": {"name": "Theirs"},
        f"groups/{group.public_id}/": {"email": me.email},
        f"groups/{group.public_id}/rename/": {"name": "Theirs"},
        f"groups/{group.public_id}/delete/": {},
        f"groups/{group.public_id}/members/{cast.admin.public_id}/remove/": {},
        "roles/new/": {"name": "Theirs", "permissions": ["usage.read"]},
        f"roles/{role.public_id}/": {"email": me.email},
        f"roles/{role.public_id}/edit/": {"name": "Theirs", "permissions": ["usage.read"]},
        f"roles/{role.public_id}/delete/": {},
        f"roles/{role.public_id}/unassign/{given.pk}/": {},
    }
    for path, form in posts.items():
        assert client.post(url(cast, path), form).status_code == 403, path
    assert people(cast) == before
    assert not Job.objects.exists()
    # Whom the organization asks is for those who ask.
    assert "new@example.com" not in client.get(url(cast)).content.decode()


def test_a_stranger_finds_nobody(cast: Cast) -> None:
    client = log_in(cast.stranger)
    mine = f"/o/{cast.other_organization.public_id}/"
    group = actions.create_group(cast.organization, "Science", acting_user=cast.owner)
    before = people(cast)
    for path in (
        f"members/{cast.viewer.public_id}/",
        f"members/{cast.viewer.public_id}/remove/",
        f"groups/{group.public_id}/",
        f"groups/{group.public_id}/delete/",
    ):
        for base in (url(cast, ""), mine):
            assert client.post(base + path, {"role": "owner"}).status_code == 404
    assert people(cast) == before


def test_removing_tells_how_many_keys_end(cast: Cast) -> None:
    for number in range(2):
        actions.create_api_key(cast.project, f"Mine {number}", acting_user=cast.member)
    client = log_in(cast.admin)
    remove = url(cast, f"members/{cast.member.public_id}/remove/")
    page = client.get(remove).content.decode()
    assert "2 keys that they made" in page
    assert cast.organization.memberships.filter(user=cast.member).exists()
    assert client.post(remove)["Location"] == url(cast)
    assert not cast.organization.memberships.filter(user=cast.member).exists()
    assert not ApiKey.objects.filter(created_by=cast.member, revoked_at=None).exists()
    assert log_in(cast.member).get(url(cast)).status_code == 404


def test_anybody_may_leave_but_the_last_owner(cast: Cast) -> None:
    client = log_in(cast.viewer)
    assert "You lose access" in client.get(url(cast, "members/leave/")).content.decode()
    assert client.post(url(cast, "members/leave/"))["Location"] == "/"
    assert not cast.organization.memberships.filter(user=cast.viewer).exists()
    owner = log_in(cast.owner)
    refused = owner.post(url(cast, "members/leave/"), follow=True)
    assert "needs an owner" in refused.content.decode()
    assert role_of(cast, cast.owner) == "owner"
    demoted = owner.post(url(cast, f"members/{cast.owner.public_id}/"), {"role": "viewer"})
    assert demoted.status_code == 302
    assert role_of(cast, cast.owner) == "owner"


def test_lists_cost_the_same_for_many_rows(cast: Cast) -> None:
    client = log_in(cast.owner)
    client.get(url(cast))
    group = actions.create_group(cast.organization, "All", acting_user=cast.owner)
    role = actions.create_role(cast.organization, "Reader", ["usage.read"], actor=actor(cast))

    def fill(number: int) -> None:
        user = make_user(f"more{number}")
        Membership.objects.create(organization=cast.organization, user=user, role="viewer")
        actions.invite_member(
            cast.organization, f"new{number}@example.com", "viewer", actor=actor(cast)
        )
        actions.create_group(cast.organization, f"Group {number}", acting_user=cast.owner)
        actions.create_role(cast.organization, f"Role {number}", ["usage.read"], actor=actor(cast))
        actions.add_group_member(group, user, actor=actor(cast))
        actions.assign_role(role, user, actor=actor(cast))

    def queries(path: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(url(cast, path)).status_code == 200
        return len(captured)

    paths = (
        "members/",
        "groups/",
        "roles/",
        f"groups/{group.public_id}/",
        f"roles/{role.public_id}/",
    )
    fill(0)
    few = [queries(path) for path in paths]
    for number in range(1, 12):
        fill(number)
    assert [queries(path) for path in paths] == few
    assert few == [10, 8, 8, 11, 15]


def test_second_factors_are_told(cast: Cast) -> None:
    from allauth.mfa.models import Authenticator

    Authenticator.objects.create(user=cast.owner, type="totp", data={})
    Authenticator.objects.create(user=cast.viewer, type="recovery_codes", data={})
    found = {
        member.user.email: member.has_second_factor
        for member in log_in(cast.owner).get(url(cast)).context["members"].rows
    }
    assert found[cast.owner.email] and not found[cast.viewer.email]
