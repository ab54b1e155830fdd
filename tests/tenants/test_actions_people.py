"""Members and invitations: nobody makes anybody more than they are, and races keep it so."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from tenants import access, actions, permissions
from tenants.actions.invitations import MOST_PENDING, digest_of, get_open_invitation
from tenants.errors import (
    AccessDenied,
    InvalidInput,
    InvitationInvalid,
    NotFound,
    OrganizationSuspended,
)
from tenants.models import (
    AuditEvent,
    GroupMember,
    Invitation,
    Membership,
    ProjectMembership,
    ProjectRole,
    Role,
    RoleAssignment,
    User,
)
from tests.cast import Cast, build_cast, make_user
from tests.tenants.people import actor, audited, give, membership_of
from tests.tenants.race import at_once, refused


@pytest.mark.parametrize("role", Role.values)
def test_an_admin_makes_nobody_more_than_an_admin_and_touches_no_owner(
    cast: Cast, role: str
) -> None:
    admin = actor(cast, cast.admin)
    may = permissions.OF_ROLE[role] <= permissions.OF_ROLE[Role.ADMIN]
    viewer, owner = membership_of(cast, cast.viewer), membership_of(cast, cast.owner)
    if may:
        assert actions.change_member_role(viewer, role, actor=admin).role == role
    else:
        with pytest.raises(AccessDenied):
            actions.change_member_role(viewer, role, actor=admin)
        assert membership_of(cast, cast.viewer).role == Role.VIEWER
    with pytest.raises(AccessDenied):
        actions.change_member_role(owner, role, actor=admin)
    with pytest.raises(AccessDenied):
        actions.remove_member(owner, actor=admin)
    assert membership_of(cast, cast.owner).role == Role.OWNER


def test_nobody_makes_themselves_an_owner(cast: Cast) -> None:
    for user in (cast.admin, cast.billing, cast.member, cast.viewer):
        with pytest.raises(AccessDenied):
            actions.change_member_role(
                membership_of(cast, user), Role.OWNER, actor=actor(cast, user)
            )
    assert not audited("member.changed")


def test_the_last_owner_stays_and_may_leave_once_there_is_another(cast: Cast) -> None:
    owner = membership_of(cast, cast.owner)
    with pytest.raises(InvalidInput, match="needs an owner"):
        actions.remove_member(owner, actor=actor(cast, cast.owner))
    with pytest.raises(InvalidInput, match="needs an owner"):
        actions.change_member_role(owner, Role.ADMIN, actor=actor(cast, cast.owner))
    actions.change_member_role(
        membership_of(cast, cast.admin), Role.OWNER, actor=actor(cast, cast.owner)
    )
    actions.remove_member(owner, actor=actor(cast, cast.owner))

    owners = Membership.objects.filter(organization=cast.organization, role=Role.OWNER)
    assert [each.user for each in owners] == [cast.admin]


def test_whoever_is_removed_loses_roles_groups_and_keys_but_no_programs_key(cast: Cast) -> None:
    owner = actor(cast, cast.owner)
    give(cast, cast.member, "member.manage")
    group = actions.create_group(cast.organization, "G", acting_user=cast.owner)
    actions.add_group_member(group, cast.member, actor=owner)
    actions.add_project_member(cast.project, cast.member, "owner", acting_user=cast.owner)
    mine, _ = actions.create_api_key(cast.project, "Mine", acting_user=cast.member)
    account = actions.create_service_account(cast.project, "S", acting_user=cast.member)
    programs, _ = actions.create_api_key(account, "Its", acting_user=cast.member)
    actions.remove_member(membership_of(cast, cast.member), actor=owner)

    for model in (RoleAssignment, GroupMember, ProjectMembership):
        assert not model.objects.filter(organization=cast.organization, user=cast.member).exists()
    mine.refresh_from_db()
    programs.refresh_from_db()
    assert mine.revoked_at is not None and programs.is_live
    assert AuditEvent.objects.get(action="member.removed").after == {"revoked_keys": 1}
    with pytest.raises(NotFound):
        actions.remove_member(membership_of_gone(cast), actor=owner)


def membership_of_gone(cast: Cast) -> Membership:
    return Membership(pk=2**40, organization=cast.organization, user=cast.member, role="viewer")


def test_a_role_that_does_not_exist_is_refused(cast: Cast) -> None:
    for role in ("", "king", "OWNER"):
        with pytest.raises(InvalidInput):
            actions.change_member_role(
                membership_of(cast, cast.viewer), role, actor=actor(cast, cast.owner)
            )


def test_a_person_is_added_once(cast: Cast) -> None:
    owner = actor(cast, cast.owner)
    actions.add_member(cast.organization, cast.stranger, Role.VIEWER, actor=owner)
    with pytest.raises(InvalidInput, match="already"):
        actions.add_member(cast.organization, cast.stranger, Role.ADMIN, actor=owner)
    with pytest.raises(AccessDenied):
        actions.add_member(
            cast.organization, cast.suspended, Role.OWNER, actor=actor(cast, cast.admin)
        )
    assert membership_of(cast, cast.stranger).role == Role.VIEWER


@pytest.mark.django_db(transaction=True)
def test_two_owners_who_demote_each_other_leave_one() -> None:
    cast = build_cast()
    actions.change_member_role(
        membership_of(cast, cast.admin), Role.OWNER, actor=actor(cast, cast.owner)
    )
    first, second = membership_of(cast, cast.owner), membership_of(cast, cast.admin)
    by_first, by_second = actor(cast, cast.owner), actor(cast, cast.admin)
    outcomes = at_once(
        lambda: actions.change_member_role(second, Role.VIEWER, actor=by_first),
        lambda: actions.change_member_role(first, Role.VIEWER, actor=by_second),
        lambda: actions.remove_member(first, actor=by_first),
    )

    assert Membership.objects.filter(organization=cast.organization, role=Role.OWNER).count() == 1
    assert refused(outcomes)


@pytest.mark.django_db(transaction=True)
def test_a_demotion_decides_by_the_role_as_it_is_now() -> None:
    cast = build_cast()
    stale = membership_of(cast, cast.viewer)  # an admin reads a viewer
    actions.change_member_role(
        membership_of(cast, cast.viewer), Role.OWNER, actor=actor(cast, cast.owner)
    )
    for attempt in (
        lambda: actions.change_member_role(stale, Role.DEVELOPER, actor=actor(cast, cast.admin)),
        lambda: actions.remove_member(stale, actor=actor(cast, cast.admin)),
    ):
        with pytest.raises(AccessDenied):
            attempt()
    assert membership_of(cast, cast.viewer).role == Role.OWNER


# --- Invitations ----------------------------------------------------------------------------


def invite(cast: Cast, role: str = Role.VIEWER, **options: Any) -> tuple[Invitation, str]:
    by = options.pop("by", cast.owner)
    return actions.invite_member(
        cast.organization, "Guest@Example.com", role, actor=actor(cast, by), **options
    )


def test_an_invitation_makes_a_member_of_its_role_and_projects_once(cast: Cast) -> None:
    projects = [{"id": cast.project.public_id, "role": "member"}]
    invitation, token = invite(cast, Role.DEVELOPER, projects=projects)
    guest = make_user("guest")
    membership = actions.accept_invitation(token, user=guest)

    assert (membership.organization, membership.role) == (cast.organization, Role.DEVELOPER)
    assert ProjectMembership.objects.get(user=guest).role == ProjectRole.MEMBER
    invitation.refresh_from_db()
    assert invitation.status == "accepted" and invitation.accepted_by == guest
    with pytest.raises(InvitationInvalid):
        actions.accept_invitation(token, user=guest)
    assert token not in str(AuditEvent.objects.filter(object_id=invitation.public_id).values())
    assert token not in str(Invitation.objects.filter(pk=invitation.pk).values())


def test_a_link_that_no_longer_works_always_says_the_same(cast: Cast) -> None:
    guest, messages = make_user("guest"), set()
    revoked, revoked_token = invite(cast)
    actions.revoke_invitation(revoked, acting_user=cast.owner)
    expired, expired_token = invite(cast)
    Invitation.objects.filter(pk=expired.pk).update(expires_at=timezone.now())
    for token in (revoked_token, expired_token, "nothing", "", digest_of(expired_token)):
        with pytest.raises(InvitationInvalid) as refusal:
            actions.accept_invitation(token, user=guest)
        messages.add(refusal.value.message)

    assert len(messages) == 1
    assert not Membership.objects.filter(user=guest).exists()


def test_an_invitation_is_for_its_address_alone(cast: Cast) -> None:
    _, token = invite(cast)
    with pytest.raises(InvitationInvalid):
        actions.accept_invitation(token, user=cast.stranger)

    assert not Membership.objects.filter(
        organization=cast.organization, user=cast.stranger
    ).exists()
    assert get_open_invitation(token).status == "pending"


def test_inviting_again_replaces_the_first_link(cast: Cast) -> None:
    first, old = invite(cast)
    _, new = invite(cast)
    with pytest.raises(InvitationInvalid):
        actions.accept_invitation(old, user=make_user("guest"))
    first.refresh_from_db()

    assert first.status == "revoked"
    assert AuditEvent.objects.filter(action="invite.sent").latest("pk").after["replaced"] == 1
    actions.accept_invitation(new, user=User.objects.get(email="guest@example.com"))


def test_nobody_invites_somebody_greater(cast: Cast) -> None:
    for user, role in (
        (cast.admin, Role.OWNER), (cast.admin, Role.BILLING), (cast.member, Role.ADMIN),
        (cast.viewer, Role.DEVELOPER), (cast.billing, Role.ADMIN),
    ):  # fmt: skip
        with pytest.raises(AccessDenied):
            invite(cast, role, by=user)
    assert not Invitation.objects.exists()


def test_nobody_invites_into_a_project_with_more_than_they_have_there(cast: Cast) -> None:
    give(cast, cast.viewer, "member.manage")
    projects = [{"id": cast.project.public_id, "role": "owner"}]
    with pytest.raises(AccessDenied):
        invite(cast, Role.VIEWER, by=cast.viewer, projects=projects)
    foreign = [{"id": cast.other_project.public_id, "role": "viewer"}]
    with pytest.raises(NotFound):
        invite(cast, Role.VIEWER, projects=foreign)
    with pytest.raises(InvalidInput):
        invite(cast, Role.VIEWER, projects=[{"id": cast.project.public_id, "role": "king"}])

    assert not Invitation.objects.exists()


@pytest.mark.parametrize(
    "email", ["", "x", "a@", "a@b", "a b@c.de", "a@c.de\n", "x" * 260 + "@c.de"]
)
def test_what_is_no_address_is_not_invited(cast: Cast, email: str) -> None:
    try:
        actions.invite_member(cast.organization, email, "viewer", actor=actor(cast, cast.owner))
    except InvalidInput as refusal:
        assert refusal.param == "email"
    else:
        assert Invitation.objects.get().email == email.strip()


def test_members_are_not_invited_and_a_suspended_organization_invites_nobody(cast: Cast) -> None:
    with pytest.raises(InvalidInput, match="member already"):
        actions.invite_member(
            cast.organization, cast.viewer.email.upper(), "viewer", actor=actor(cast, cast.owner)
        )
    theirs = Membership.objects.get(user=cast.suspended)
    with pytest.raises(OrganizationSuspended):
        actions.invite_member(
            theirs.organization, "a@example.com", "viewer", actor=access.get_actor(theirs)
        )
    assert not Invitation.objects.exists()


def test_open_invitations_are_bounded(cast: Cast) -> None:
    Invitation.objects.bulk_create(
        Invitation(
            organization=cast.organization, email=f"p{n}@example.com", role="viewer",
            token_digest=str(n), expires_at=timezone.now() + timedelta(days=1),
        )
        for n in range(MOST_PENDING)
    )  # fmt: skip
    with pytest.raises(InvalidInput, match="can be open"):
        invite(cast)


def test_revoking_twice_is_once_and_an_accepted_one_stays(cast: Cast) -> None:
    invitation, token = invite(cast)
    for _ in range(2):
        actions.revoke_invitation(invitation, acting_user=cast.owner)
    assert audited("invite.deleted") == 1
    invitation, token = invite(cast)
    actions.accept_invitation(token, user=make_user("guest"))
    assert actions.revoke_invitation(invitation, acting_user=cast.owner).status == "accepted"
    assert audited("invite.deleted") == 1


@pytest.mark.django_db(transaction=True)
def test_an_invitation_accepted_at_once_is_accepted_once() -> None:
    cast = build_cast()
    _, token = invite(cast)
    guest = make_user("guest")
    outcomes = at_once(*[lambda: actions.accept_invitation(token, user=guest)] * 5)

    assert len(refused(outcomes)) == 4
    assert Membership.objects.filter(user=guest).count() == 1
    assert audited("invite.accepted") == 1


@pytest.mark.django_db(transaction=True)
def test_accepting_and_revoking_at_once_have_one_winner() -> None:
    cast = build_cast()
    invitation, token = invite(cast)
    guest = make_user("guest")
    outcomes = at_once(
        lambda: actions.accept_invitation(token, user=guest),
        lambda: actions.revoke_invitation(Invitation.objects.get(pk=invitation.pk), acting_user=None),
    )  # fmt: skip

    joined = Membership.objects.filter(user=guest).count()
    assert joined == 1 - len(refused(outcomes)) == 1 - audited("invite.deleted")


@pytest.mark.django_db(transaction=True)
def test_one_address_invited_at_once_has_one_open_invitation() -> None:
    cast = build_cast()
    by = actor(cast, cast.owner)
    at_once(
        *[lambda: actions.invite_member(cast.organization, "g@example.com", "viewer", actor=by)] * 4
    )
    assert Invitation.objects.filter(revoked_at=None).count() == 1
