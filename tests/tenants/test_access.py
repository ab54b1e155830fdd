"""Who may what: foreign objects are absent, and a role does what its row says."""

from __future__ import annotations

import pytest
from django.utils import timezone

from tenants import access, actions
from tenants.errors import AccessDenied, NotFound
from tenants.models import Membership, Role
from tests.cast import Cast

PERMISSIONS = ("organization.update", "key.create", "key.revoke", "usage.read")
MAY = {
    "owner": PERMISSIONS,
    "admin": PERMISSIONS,
    "member": ("key.create", "key.revoke", "usage.read"),
    "billing": ("usage.read",),
    "viewer": ("usage.read",),
}


@pytest.mark.parametrize("permission", PERMISSIONS)
@pytest.mark.parametrize("person", MAY)
def test_a_role_may_what_the_table_says(cast: Cast, person: str, permission: str) -> None:
    user, public_id = getattr(cast, person), cast.organization.public_id

    if permission in MAY[person]:
        assert access.access_organization(user, public_id, permission) == cast.organization
    else:
        with pytest.raises(AccessDenied) as refusal:
            access.access_organization(user, public_id, permission)
        assert refusal.value.status == 403


@pytest.mark.parametrize("person", ["stranger", "suspended", "staff"])
def test_to_a_non_member_the_organization_does_not_exist(cast: Cast, person: str) -> None:
    with pytest.raises(NotFound) as foreign:
        access.access_organization(getattr(cast, person), cast.organization.public_id, "usage.read")
    with pytest.raises(NotFound) as absent:
        access.access_organization(getattr(cast, person), "org_nothing", "usage.read")

    assert foreign.value.message == absent.value.message  # the two cannot be told apart


def test_every_role_has_a_row_of_permissions() -> None:
    assert set(access.PERMISSIONS) == set(Role)


def test_another_organizations_project_and_key_are_absent(cast: Cast) -> None:
    with pytest.raises(NotFound):
        access.access_project(cast.organization, cast.other_project.public_id)
    with pytest.raises(NotFound):
        access.access_api_key(cast.organization, cast.stranger_api_key.public_id)

    assert access.access_project(cast.organization, cast.project.public_id) == cast.project
    found = access.access_api_key(cast.organization, cast.owner_api_key.public_id)
    assert found == cast.owner_api_key


def test_an_archived_project_is_absent_and_a_revoked_key_is_not(cast: Cast) -> None:
    actions.revoke_api_key(cast.owner_api_key, acting_user=cast.owner)
    cast.project.archived_at = timezone.now()
    cast.project.save()

    with pytest.raises(NotFound):
        access.access_project(cast.organization, cast.project.public_id)
    found = access.access_api_key(cast.organization, cast.owner_api_key.public_id)
    assert not found.is_live


def test_memberships_are_the_users_own_oldest_first(cast: Cast) -> None:
    Membership.objects.create(
        organization=cast.other_organization, user=cast.owner, role=Role.VIEWER
    )

    organizations = [each.organization for each in access.get_memberships(cast.owner)]
    assert organizations == [cast.organization, cast.other_organization]
