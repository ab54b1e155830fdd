"""Groups and custom roles on the pages: what they give, and that nobody gives more than they have."""

from __future__ import annotations

import pytest

from portal.permission_words import PERMISSION_LABELS, SCOPE_LABELS
from tenants import actions
from tenants.models import CustomRole, Group, GroupMember, RoleAssignment
from tenants.permissions import ALL, KEY_SCOPES
from tests.cast import Cast
from tests.portal.conftest import log_in
from tests.portal.test_members import actor, people, url

pytestmark = pytest.mark.django_db


def test_a_group_gives_its_roles_to_its_people(cast: Cast) -> None:
    client = log_in(cast.admin)
    client.post(url(cast, "groups/new/"), {"name": "On call"})
    group = Group.objects.get()
    form = {
        "name": "Key rotation",
        "description": "Creates keys, nothing else",
        "permissions": ["key.create"],
    }
    client.post(url(cast, "roles/new/"), form)
    role = CustomRole.objects.get()
    group_page, role_page = (
        url(cast, f"groups/{group.public_id}/"),
        url(cast, f"roles/{role.public_id}/"),
    )
    assert client.post(group_page, {"email": cast.viewer.email}).status_code == 302
    viewer = log_in(cast.viewer)
    assert viewer.get(url(cast, "keys/new/")).status_code == 403
    assert client.post(role_page, {"group": group.public_id}).status_code == 302
    assert viewer.get(url(cast, "keys/new/")).status_code == 200
    assert "On call" in client.get(role_page).content.decode()
    assert "Key rotation" in client.get(group_page).content.decode()
    member = client.get(url(cast, f"members/{cast.viewer.public_id}/")).content.decode()
    assert "On call" in member
    given = RoleAssignment.objects.get()
    assert client.post(f"{role_page}unassign/{given.pk}/").status_code == 302
    assert viewer.get(url(cast, "keys/new/")).status_code == 403
    remove = f"{group_page}members/{cast.viewer.public_id}/remove/"
    assert client.post(remove).status_code == 302
    assert not GroupMember.objects.exists()
    assert client.post(f"{group_page}rename/", {"name": "Night shift"}).status_code == 302
    assert client.post(f"{group_page}delete/").status_code == 302
    assert client.post(f"{role_page}delete/").status_code == 302
    assert not Group.objects.exists() and not CustomRole.objects.exists()


def test_a_role_in_one_project(cast: Cast) -> None:
    role = actions.create_role(cast.organization, "Limits", ["limit.manage"], actor=actor(cast))
    client = log_in(cast.owner)
    form = {"email": cast.viewer.email, "project": cast.project.public_id}
    client.post(url(cast, f"roles/{role.public_id}/"), form)
    other = actions.create_project(cast.organization, "Search", acting_user=cast.owner)
    viewer = log_in(cast.viewer)
    limits = "projects/{}/limits/"
    assert viewer.get(url(cast, limits.format(cast.project.public_id))).status_code == 200
    assert viewer.get(url(cast, limits.format(other.public_id))).status_code == 403


def test_an_admin_gives_no_role_beyond_their_own(cast: Cast) -> None:
    strong = actions.create_role(
        cast.organization, "Treasurer", ["billing.manage"], actor=actor(cast)
    )
    group = actions.create_group(cast.organization, "Money", acting_user=cast.owner)
    given = actions.assign_role(strong, group, actor=actor(cast))
    client = log_in(cast.admin)
    before = people(cast)
    role = f"roles/{strong.public_id}/"
    posts = {
        "roles/new/": {"name": "Mine", "permissions": ["billing.manage"]},
        f"{role}": {"email": cast.admin.email},
        f"{role}edit/": {"name": "Mine", "permissions": ["usage.read"]},
        f"{role}delete/": {},
        f"{role}unassign/{given.pk}/": {},
        f"groups/{group.public_id}/": {"email": cast.admin.email},
        f"groups/{group.public_id}/delete/": {},
    }
    for path, form in posts.items():
        assert client.post(url(cast, path), form).status_code == 403, path
    assert people(cast) == before
    assert "you do not have this" in client.get(url(cast, "roles/new/")).content.decode()


def test_every_permission_has_words() -> None:
    assert set(PERMISSION_LABELS) == ALL
    assert set(SCOPE_LABELS) == KEY_SCOPES
