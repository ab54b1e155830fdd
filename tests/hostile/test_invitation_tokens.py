"""Invitations: links used twice, by somebody else, guessed, or read out of the database."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from tenants import access, actions, identifiers
from tenants.errors import InvitationInvalid, TenantError
from tenants.models import Invitation, Membership, Organization, Role, User
from tests.cast import Cast, build_cast, make_user


def invite(cast: Cast, email: str = "guest@example.com") -> tuple[Invitation, str]:
    membership = Membership.objects.select_related("organization").get(
        organization=cast.organization, user=cast.owner
    )
    return actions.invite_member(
        cast.organization, email, Role.VIEWER, actor=access.get_actor(membership)
    )


def members(organization: Organization) -> set[str]:
    rows = Membership.objects.filter(organization=organization)
    return set(rows.values_list("user__email", flat=True))


@pytest.mark.django_db
def test_a_link_works_once_for_whom_it_was_meant(cast: Cast) -> None:
    guest, other = make_user("guest"), make_user("other")
    _, token = invite(cast)
    with pytest.raises(InvitationInvalid):
        actions.accept_invitation(token, user=other)
    assert actions.accept_invitation(token, user=guest).role == Role.VIEWER
    for user in (guest, other):
        with pytest.raises(InvitationInvalid):
            actions.accept_invitation(token, user=user)
    assert members(cast.organization) & {"other@example.com"} == set()


@pytest.mark.django_db
def test_whoever_was_removed_does_not_come_back_by_the_old_link(cast: Cast) -> None:
    guest = make_user("guest")
    _, token = invite(cast)
    membership = actions.accept_invitation(token, user=guest)
    owner = Membership.objects.select_related("organization").get(user=cast.owner)
    actions.remove_member(membership, actor=access.get_actor(owner))
    with pytest.raises(InvitationInvalid):
        actions.accept_invitation(token, user=guest)
    assert "guest@example.com" not in members(cast.organization)


@pytest.mark.django_db
@pytest.mark.parametrize("end", ["expired", "revoked", "replaced"])
def test_a_link_that_ended_is_worth_what_an_unknown_one_is(cast: Cast, end: str) -> None:
    guest = make_user("guest")
    invitation, token = invite(cast)
    if end == "expired":
        Invitation.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    elif end == "revoked":
        actions.revoke_invitation(invitation, acting_user=cast.owner)
    else:
        invite(cast)
    errors = []
    for text in (token, identifiers.random_text(40)):
        with pytest.raises(InvitationInvalid) as refusal:
            actions.accept_invitation(text, user=guest)
        errors.append((refusal.value.status, refusal.value.code, refusal.value.message))
    assert errors[0] == errors[1]
    assert "guest@example.com" not in members(cast.organization)


@pytest.mark.django_db
def test_guesses_and_what_the_database_holds_open_nothing(cast: Cast) -> None:
    guest = make_user("guest")
    invitation, token = invite(cast)
    assert invitation.token_digest == hashlib.sha256(token.encode()).hexdigest()
    assert len(token) >= 40  # 238 bits
    for text in (
        "", " ", "%", "_", "\0", token[:-1], token + "a", token.swapcase(), f" {token}", "x" * 10_000,
        invitation.token_digest, invitation.public_id, str(invitation.pk), "' OR true --", "é" * 40,
    ):  # fmt: skip
        with pytest.raises(TenantError):
            actions.accept_invitation(text, user=guest)
    assert "guest@example.com" not in members(cast.organization)


@pytest.mark.django_db(transaction=True)
def test_of_many_clicks_at_once_one_joins() -> None:
    cast = build_cast()
    guest = make_user("guest")
    _, token = invite(cast)

    def accept(_: int) -> bool:
        try:
            actions.accept_invitation(token, user=User.objects.get(pk=guest.pk))
        except InvitationInvalid:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(accept, range(16)))
    assert outcomes.count(True) == 1
    assert Membership.objects.filter(user=guest).count() == 1
