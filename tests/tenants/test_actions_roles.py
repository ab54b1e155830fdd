"""Roles and groups: no way up, for people and programs, also not in a race."""

from __future__ import annotations

from typing import Any

import pytest

from tenants import actions, audit, permissions, scope
from tenants.actions.giving import check_gives
from tenants.errors import (
    AccessDenied,
    InvalidInput,
    NotFound,
)
from tenants.models import (
    CustomRole,
    Group,
    GroupMember,
    Organization,
    ProjectMembership,
    RoleAssignment,
)
from tests.cast import Cast, build_cast
from tests.tenants.people import actor, audited, give
from tests.tenants.race import at_once


def test_a_role_is_never_wider_than_its_maker(cast: Cast) -> None:
    give(cast, cast.member, "role.manage")
    mine = actor(cast, cast.member)
    with pytest.raises(AccessDenied):
        actions.create_role(cast.organization, "R", ["billing.manage"], actor=mine)
    role = actions.create_role(cast.organization, "R", ["key.create"], actor=mine)
    for wider in (["member.manage"], ["key.create", "billing.manage"], sorted(permissions.ALL)):
        with pytest.raises(AccessDenied):
            actions.update_role(role, given=wider, actor=mine)
    role.refresh_from_db()
    assert role.permissions == ["key.create"]


def test_a_greater_role_is_neither_assigned_nor_changed_nor_taken_by_a_lesser(cast: Cast) -> None:
    owner, admin = actor(cast, cast.owner), actor(cast, cast.admin)
    role = actions.create_role(cast.organization, "Money", ["billing.manage"], actor=owner)
    given = actions.assign_role(role, cast.viewer, actor=owner)
    for attempt in (
        lambda: actions.assign_role(role, cast.admin, actor=admin),
        lambda: actions.update_role(role, name="Mine", actor=admin),
        lambda: actions.unassign_role(given, actor=admin),
        lambda: actions.delete_role(role, actor=admin),
    ):
        with pytest.raises(AccessDenied):
            attempt()
    assert not actor(cast, cast.admin).may("billing.manage")
    assert CustomRole.objects.get().name == "Money"
    assert RoleAssignment.objects.count() == 1


def test_a_role_that_grew_meanwhile_is_not_given_away_by_who_read_it_small(cast: Cast) -> None:
    owner, admin = actor(cast, cast.owner), actor(cast, cast.admin)
    role = actions.create_role(cast.organization, "R", ["usage.read"], actor=owner)
    stale = CustomRole.objects.get(pk=role.pk)
    actions.update_role(role, given=["billing.manage"], actor=owner)
    with pytest.raises(AccessDenied):
        actions.assign_role(stale, cast.admin, actor=admin)
    with pytest.raises(AccessDenied):
        actions.update_role(stale, description="Mine", actor=admin)

    assert CustomRole.objects.get().permissions == ["billing.manage"]


def test_a_group_is_no_way_up(cast: Cast) -> None:
    owner, admin = actor(cast, cast.owner), actor(cast, cast.admin)
    group = actions.create_group(cast.organization, "Finance", acting_user=cast.owner)
    role = actions.create_role(cast.organization, "Money", ["billing.manage"], actor=owner)
    actions.assign_role(role, group, actor=owner)
    member = actions.add_group_member(group, cast.viewer, actor=owner)
    assert actor(cast, cast.viewer).may("billing.manage")
    for attempt in (
        lambda: actions.add_group_member(group, cast.admin, actor=admin),
        lambda: actions.remove_group_member(member, actor=admin),
        lambda: actions.delete_group(group, actor=admin),
    ):
        with pytest.raises(AccessDenied):
            attempt()
    assert not actor(cast, cast.admin).may("billing.manage")
    assert GroupMember.objects.count() == 1 and Group.objects.count() == 1


def test_what_a_group_gives_in_one_project_is_not_given_elsewhere(cast: Cast) -> None:
    second = actions.create_project(cast.organization, "Second", acting_user=cast.owner)
    give(cast, cast.viewer, "key.create", project=second)
    viewer = actor(cast, cast.viewer)

    assert viewer.may("key.create", second)
    assert not viewer.may("key.create", cast.project) and not viewer.may("key.create")


def test_a_role_in_a_project_gives_nothing_of_the_whole_organization(cast: Cast) -> None:
    give(cast, cast.viewer, "admin_key.manage", "key.create", project=cast.project)
    viewer = actor(cast, cast.viewer)

    assert viewer.may("key.create", cast.project)
    assert not viewer.may("admin_key.manage", cast.project)


def test_strangers_and_foreign_things_are_absent(cast: Cast) -> None:
    owner = actor(cast, cast.owner)
    role = actions.create_role(cast.organization, "R", ["usage.read"], actor=owner)
    group = actions.create_group(cast.organization, "G", acting_user=cast.owner)
    foreign = actions.create_group(cast.other_organization, "G", acting_user=cast.stranger)
    for attempt in (
        lambda: actions.assign_role(role, cast.stranger, actor=owner),
        lambda: actions.assign_role(role, foreign, actor=owner),
        lambda: actions.assign_role(role, cast.viewer, project=cast.other_project, actor=owner),
        lambda: actions.create_role(
            cast.organization, "P", ["key.read"], project=cast.other_project, actor=owner
        ),
        lambda: actions.add_group_member(group, cast.stranger, actor=owner),
    ):
        with pytest.raises(NotFound):
            attempt()
    assert not RoleAssignment.objects.exists() and not GroupMember.objects.exists()


@pytest.mark.parametrize("given", [["nonsense"], ["billing.read", "x" * 999], [""], [None]])
def test_permissions_that_do_not_exist_are_refused(cast: Cast, given: list[Any]) -> None:
    with pytest.raises(InvalidInput) as refusal:
        actions.create_role(cast.organization, "R", given, actor=actor(cast, cast.owner))
    assert refusal.value.param == "permissions" and len(refusal.value.message) < 1000


def test_a_projects_own_role_has_only_a_projects_permissions(cast: Cast) -> None:
    owner = actor(cast, cast.owner)
    with pytest.raises(InvalidInput):
        actions.create_role(
            cast.organization, "R", ["billing.read"], project=cast.project, actor=owner
        )
    role = actions.create_role(
        cast.organization, "R", ["key.read"], project=cast.project, actor=owner
    )
    assert actions.assign_role(role, cast.viewer, actor=owner).project == cast.project


@pytest.mark.parametrize("make", ["role", "group"])
def test_names_are_taken_once_and_descriptions_are_text(cast: Cast, make: str) -> None:
    owner = actor(cast, cast.owner)

    def create(name: str, organization: Organization = cast.organization) -> Any:
        if make == "group":
            return actions.create_group(organization, name, acting_user=None)
        return actions.create_role(organization, name, [], actor=owner)

    create("One")
    other = create("Two")
    with pytest.raises(InvalidInput, match="exists"):
        create("One")
    with pytest.raises(InvalidInput, match="exists"):
        if make == "group":
            actions.rename_group(other, "One", acting_user=None)
        else:
            actions.update_role(other, name="One", actor=owner)
    with pytest.raises(InvalidInput):
        actions.create_role(cast.organization, "R", [], description="\ud800", actor=owner)


def test_twice_is_once(cast: Cast) -> None:
    owner = actor(cast, cast.owner)
    role = actions.create_role(cast.organization, "R", ["usage.read"], actor=owner)
    group = actions.create_group(cast.organization, "G", acting_user=cast.owner)
    for _ in range(2):
        actions.assign_role(role, cast.viewer, actor=owner)
        actions.add_group_member(group, cast.viewer, actor=owner)
    assert (audited("role.assigned"), audited("group_member.added")) == (1, 1)


@pytest.mark.django_db(transaction=True)
def test_one_role_assigned_at_once_is_assigned_once() -> None:
    cast = build_cast()
    owner = actor(cast, cast.owner)
    role = actions.create_role(cast.organization, "R", ["usage.read"], actor=owner)
    at_once(*[lambda: actions.assign_role(role, cast.viewer, actor=owner)] * 4)

    assert RoleAssignment.objects.count() == 1 and audited("role.assigned") == 1


# --- Who gives without being asked what they may ----------------------------------------------


def test_who_acts_gives_what_they_have(cast: Cast) -> None:
    needed = frozenset({"billing.manage"})
    check_gives(cast.organization, needed, acting_user=cast.owner)
    check_gives(cast.organization, needed, acting_user=None)
    with scope.for_staff():
        check_gives(cast.organization, needed, acting_user=cast.staff)
    for user in (cast.admin, cast.viewer, cast.stranger, cast.staff):
        with pytest.raises(AccessDenied):
            check_gives(cast.organization, needed, acting_user=user)
    with scope.for_staff(), pytest.raises(AccessDenied):
        check_gives(cast.organization, needed, acting_user=cast.stranger)


def test_a_program_gives_what_its_key_has(cast: Cast) -> None:
    terms = actions.KeyTerms(scopes=("member.read",))
    key, _ = actions.create_api_key(cast.organization, "K", terms=terms, acting_user=cast.owner)
    with audit.acting_program(key, None):
        check_gives(cast.organization, frozenset({"member.read"}), acting_user=None)
        for organization in (cast.organization, cast.other_organization):
            with pytest.raises(AccessDenied):
                check_gives(organization, frozenset({"key.create"}), acting_user=None)


def test_a_projects_manager_makes_nobody_its_owner(cast: Cast) -> None:
    give(cast, cast.viewer, "project_member.manage", project=cast.project)
    for attempt in (
        lambda: actions.add_project_member(
            cast.project, cast.viewer, "owner", acting_user=cast.viewer
        ),
        lambda: actions.add_project_member(
            cast.project, cast.member, "owner", acting_user=cast.viewer
        ),
    ):
        with pytest.raises(AccessDenied):
            attempt()
    owned = actions.add_project_member(cast.project, cast.member, "owner", acting_user=cast.owner)
    for attempt in (
        lambda: actions.change_project_member(owned, "viewer", acting_user=cast.viewer),
        lambda: actions.remove_project_member(owned, acting_user=cast.viewer),
    ):
        with pytest.raises(AccessDenied):
            attempt()
    assert ProjectMembership.objects.get().role == "owner"
    actions.remove_project_member(owned, acting_user=cast.member)  # anybody may leave
    assert not ProjectMembership.objects.exists()
