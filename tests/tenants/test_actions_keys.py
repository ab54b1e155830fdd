"""Keys, service accounts and projects: every rule of their actions, races included."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from tenants import access, actions, audit, keys, permissions
from tenants.actions.keys import LONGEST_OVERLAP, KeyTerms
from tenants.actions.projects import LIMIT_NAMES
from tenants.errors import AccessDenied, AlreadyDone, InvalidInput, NotFound
from tenants.models import (
    ApiKey,
    AuditEvent,
    Membership,
    ProjectMembership,
    ProjectModelLimit,
    ServiceAccount,
    User,
)
from tests.cast import Cast, build_cast
from tests.tenants.race import at_once, refused


def audited(action: str) -> int:
    return AuditEvent.objects.filter(action=action).count()


def give(cast: Cast, user: User, *given: str) -> None:
    owner = access.get_actor(Membership.objects.get(user=cast.owner))
    role = actions.create_role(cast.organization, given[0], list(given), actor=owner)
    actions.assign_role(role, user, actor=owner)


# --- Made --------------------------------------------------------------------------------------


def test_each_kind_of_key_has_its_place_and_its_prefix(cast: Cast) -> None:
    account = actions.create_service_account(cast.project, "S", acting_user=cast.owner)
    for owner, kind, project, prefix in (
        (cast.project, "project", cast.project, "sk-proj-"),
        (account, "service_account", cast.project, "sk-svcacct-"),
        (cast.organization, "admin", None, "sk-admin-"),
    ):
        key, text = actions.create_api_key(owner, "K", acting_user=cast.owner)
        assert (key.kind, key.project, key.organization) == (kind, project, cast.organization)
        assert text.startswith(prefix) and keys.lookup_of(text) == key.lookup
        assert key.service_account == (account if kind == "service_account" else None)


@pytest.mark.parametrize("person", ["admin", "billing", "member", "viewer", "stranger", "staff"])
def test_nobody_makes_an_admin_key_that_may_more_than_they(cast: Cast, person: str) -> None:
    """An unrestricted one may everything, also what an admin of the organization may not."""
    before = ApiKey.objects.count()
    wanted = [KeyTerms(), KeyTerms(scopes=("billing.manage",))]
    if person == "billing":
        wanted = [KeyTerms(), KeyTerms(scopes=("member.manage",))]
    for terms in wanted:
        with pytest.raises(AccessDenied):
            actions.create_api_key(
                cast.organization, "K", terms=terms, acting_user=getattr(cast, person)
            )
    assert ApiKey.objects.count() == before


def test_an_admin_makes_an_admin_key_of_what_they_have(cast: Cast) -> None:
    held = tuple(sorted(permissions.OF_ROLE["admin"]))
    key, _ = actions.create_api_key(
        cast.organization, "K", terms=KeyTerms(scopes=held), acting_user=cast.admin
    )
    assert not access.get_key_actor(key).may("billing.manage")


def test_a_program_makes_no_key_greater_than_its_own(cast: Cast) -> None:
    small, _ = actions.create_api_key(
        cast.organization, "K", terms=KeyTerms(scopes=("admin_key.manage",)), acting_user=cast.owner
    )
    with audit.acting_program(small, None):
        for terms in (KeyTerms(), KeyTerms(scopes=("member.manage",))):
            with pytest.raises(AccessDenied):
                actions.create_api_key(cast.organization, "L", terms=terms, acting_user=None)
            with pytest.raises(AccessDenied):
                actions.update_api_key(small, terms=terms, acting_user=None)
        with pytest.raises(AccessDenied):
            actions.rotate_api_key(cast.owner_admin_api_key, acting_user=None)
    cast.owner_admin_api_key.refresh_from_db()
    assert cast.owner_admin_api_key.rotated_at is None


def test_an_admin_neither_rotates_nor_changes_the_owners_key(cast: Cast) -> None:
    for attempt in (
        lambda: actions.rotate_api_key(cast.owner_admin_api_key, acting_user=cast.admin),
        lambda: actions.update_api_key(
            cast.owner_admin_api_key, name="Mine", acting_user=cast.admin
        ),
    ):
        with pytest.raises(AccessDenied):
            attempt()
    actions.revoke_api_key(cast.owner_admin_api_key, acting_user=cast.admin)  # stopping is safe


@pytest.mark.parametrize(
    "terms, param",
    [
        ({"scopes": ("nonsense",)}, "scopes"),
        ({"scopes": ("billing.manage",)}, "scopes"),
        ({"allowed_models": ("",)}, "allowed_models"),
        ({"allowed_models": ("m",) * 201}, "allowed_models"),
        ({"allowed_networks": ("10.0.0.1/8",)}, "allowed_networks"),
        ({"allowed_networks": ("nowhere",)}, "allowed_networks"),
        ({"allowed_networks": ("10.0.0.0/8",) * 101}, "allowed_networks"),
        ({"limits": {"wishes": 1}}, "wishes"),
        ({"limits": {"requests_per_minute": -1}}, "requests_per_minute"),
        ({"limits": {"requests_per_minute": True}}, "requests_per_minute"),
        ({"limits": {"requests_per_minute": 2**31}}, "requests_per_minute"),
        ({"limits": {"tokens_per_day": 2**63}}, "tokens_per_day"),
        ({"limits": {"tokens_per_minute": 2**31}}, "tokens_per_minute"),
        ({"limits": {"monthly_budget_micros": 1.5}}, "monthly_budget_micros"),
    ],
)
def test_terms_that_make_no_sense_are_refused(
    cast: Cast, terms: dict[str, Any], param: str
) -> None:
    for attempt in (
        lambda: actions.create_api_key(
            cast.project, "K", terms=KeyTerms(**terms), acting_user=cast.owner
        ),
        lambda: actions.update_api_key(
            cast.owner_api_key, terms=KeyTerms(**terms), acting_user=cast.owner
        ),
    ):
        with pytest.raises(InvalidInput) as refusal:
            attempt()
        assert refusal.value.param == param


def test_the_largest_limits_are_stored(cast: Cast) -> None:
    largest = dict.fromkeys(LIMIT_NAMES, 2**31 - 1) | {
        "tokens_per_day": 2**63 - 1, "monthly_tokens": 2**63 - 1, "monthly_budget_micros": 0,
    }  # fmt: skip
    terms = KeyTerms(limits=largest, allowed_networks=("203.0.113.0/24", "2001:db8::/32"))
    key, _ = actions.create_api_key(cast.project, "K", terms=terms, acting_user=cast.owner)
    key.refresh_from_db()

    assert {name: getattr(key, name) for name in LIMIT_NAMES} == largest


# --- Changed -------------------------------------------------------------------------------------


def test_a_change_tells_both_values_and_no_secret(cast: Cast) -> None:
    key = actions.update_api_key(
        cast.owner_api_key, name="New", terms=KeyTerms(limits={"requests_per_day": 5}),
        acting_user=cast.owner,
    )  # fmt: skip
    event = AuditEvent.objects.get(action="api_key.updated")

    assert event.before == {"name": "Owner's key"}
    assert event.after == {"name": "New", "requests_per_day": 5}
    assert key.lookup not in str(event.content)


def test_only_another_end_is_warned_of_again(cast: Cast) -> None:
    end, warned = timezone.now() + timedelta(days=3), timezone.now()
    key, _ = actions.create_api_key(cast.project, "K", expires_at=end, acting_user=cast.owner)
    stale = ApiKey.objects.get(pk=key.pk)
    ApiKey.objects.filter(pk=key.pk).update(expiry_warned_at=warned)
    for change in ({"name": "L"}, {"terms": KeyTerms(expires_at=end)}):
        actions.update_api_key(stale, acting_user=cast.owner, **change)
        key.refresh_from_db()
        assert key.expiry_warned_at == warned

    later = KeyTerms(expires_at=end + timedelta(days=30))
    actions.update_api_key(stale, terms=later, acting_user=cast.owner)
    key.refresh_from_db()
    assert key.expiry_warned_at is None


def test_a_rotated_key_keeps_its_row_and_the_secret_before_for_a_while(cast: Cast) -> None:
    key, now = cast.owner_api_key, timezone.now()
    before = (key.pk, key.lookup, bytes(key.secret_hmac))
    rotated, text = actions.rotate_api_key(key, overlap=timedelta(hours=2), acting_user=cast.owner)

    assert (rotated.pk, rotated.previous_lookup, bytes(rotated.previous_secret_hmac)) == before
    assert now + timedelta(hours=2) <= rotated.previous_expires_at
    assert rotated.last_four == text[-4:] and rotated.lookup != before[1]
    event = AuditEvent.objects.get(action="api_key.rotated")
    assert event.after == {"last_four": text[-4:], "overlap_seconds": 7200}


@pytest.mark.parametrize("overlap", [timedelta(seconds=-1), LONGEST_OVERLAP + timedelta(seconds=1)])
def test_an_overlap_out_of_bounds_is_refused(cast: Cast, overlap: timedelta) -> None:
    with pytest.raises(InvalidInput):
        actions.rotate_api_key(cast.owner_api_key, overlap=overlap, acting_user=cast.owner)


def test_a_revoked_key_is_not_rotated(cast: Cast) -> None:
    actions.revoke_api_key(cast.owner_api_key, acting_user=cast.owner)
    with pytest.raises(AlreadyDone):
        actions.rotate_api_key(cast.owner_api_key, acting_user=cast.owner)
    assert not audited("api_key.rotated")


@pytest.mark.django_db(transaction=True)
def test_of_rotations_at_once_one_shows_a_secret_that_works() -> None:
    cast = build_cast()
    copies = [ApiKey.objects.get(pk=cast.owner_api_key.pk) for _ in range(4)]
    outcomes = at_once(
        *[lambda key=key: actions.rotate_api_key(key, acting_user=cast.owner) for key in copies]
    )

    (shown,) = [outcome for outcome in outcomes if isinstance(outcome, tuple)]
    assert len(refused(outcomes)) == 3
    stored = ApiKey.objects.get(pk=cast.owner_api_key.pk)
    assert stored.lookup == keys.lookup_of(shown[1])
    assert stored.previous_lookup == copies[0].lookup or stored.previous_lookup
    assert audited("api_key.rotated") == 1


@pytest.mark.django_db(transaction=True)
def test_rotation_and_revocation_at_once_end_revoked() -> None:
    cast = build_cast()
    copies = [ApiKey.objects.get(pk=cast.owner_api_key.pk) for _ in range(2)]
    at_once(
        lambda: actions.rotate_api_key(copies[0], acting_user=cast.owner),
        lambda: actions.revoke_api_key(copies[1], acting_user=cast.owner),
    )
    assert ApiKey.objects.get(pk=cast.owner_api_key.pk).revoked_at is not None


def test_suspension_tells_why_and_ends(cast: Cast) -> None:
    key = cast.owner_api_key
    actions.set_api_key_suspended(key, True, reason="r" * 300, acting_user=cast.owner)
    assert not key.is_live and len(key.suspended_reason) == 200
    actions.set_api_key_suspended(key, False, acting_user=cast.owner)
    assert key.is_live and key.suspended_reason == ""
    event = AuditEvent.objects.get(action="api_key.restored")
    assert event.before["suspended"] is True and event.after["suspended"] is False


# --- Service accounts ----------------------------------------------------------------------------


def test_a_deleted_service_account_has_no_live_key_and_gets_none(cast: Cast) -> None:
    account = actions.create_service_account(cast.project, "S", acting_user=cast.owner)
    key, _ = actions.create_api_key(account, "K", acting_user=cast.owner)
    stale = ServiceAccount.objects.get(pk=account.pk)
    for _ in range(2):
        actions.delete_service_account(account, acting_user=cast.owner)
    with pytest.raises(InvalidInput, match="deleted"):
        actions.create_api_key(stale, "L", acting_user=cast.owner)

    assert not ApiKey.objects.filter(service_account=account, revoked_at=None).exists()
    assert audited("service_account.deleted") == 1


@pytest.mark.django_db(transaction=True)
def test_a_key_made_while_its_account_is_deleted_is_dead_or_refused() -> None:
    cast = build_cast()
    for number in range(5):
        account = actions.create_service_account(cast.project, f"S{number}", acting_user=None)
        create_and_delete_at_once(account.pk)
        assert not ApiKey.objects.filter(service_account=account, revoked_at=None).exists()


def create_and_delete_at_once(pk: int) -> None:
    mine, theirs = (ServiceAccount.objects.get(pk=pk) for _ in range(2))
    at_once(
        lambda: actions.create_api_key(mine, "K", acting_user=None),
        lambda: actions.delete_service_account(theirs, acting_user=None),
    )


def test_an_archived_project_gets_no_key_of_any_kind(cast: Cast) -> None:
    account = actions.create_service_account(cast.project, "S", acting_user=cast.owner)
    actions.archive_project(cast.project, acting_user=cast.owner)
    for owner in (cast.project, ServiceAccount.objects.get(pk=account.pk)):
        with pytest.raises(InvalidInput, match="archived"):
            actions.create_api_key(owner, "K", acting_user=cast.owner)


# --- Projects ------------------------------------------------------------------------------------


def test_a_project_changes_what_it_may_and_nothing_else(cast: Cast) -> None:
    changes = {"name": "New", "requests_per_day": 5, "denied_models": ["a", "b", "a"]}
    project = actions.update_project(cast.project, changes, acting_user=cast.owner)
    event = AuditEvent.objects.get(action="project.updated")

    assert project.denied_models == ["a", "b"]
    assert event.before == {
        "name": "Default project",
        "requests_per_day": None,
        "denied_models": [],
    }
    for name in ("organization", "archived_at", "public_id", "id", "nonsense"):
        with pytest.raises(InvalidInput) as refusal:
            actions.update_project(cast.project, {name: 1}, acting_user=cast.owner)
        assert refusal.value.param == name
    with pytest.raises(InvalidInput):
        actions.update_project(cast.project, {"allowed_models": "all"}, acting_user=cast.owner)


def test_archiving_twice_is_once(cast: Cast) -> None:
    first = actions.archive_project(cast.project, acting_user=cast.owner).archived_at
    assert actions.archive_project(cast.project, acting_user=cast.owner).archived_at == first
    assert audited("project.archived") == 1


def test_a_limit_of_one_model_is_changed_field_by_field(cast: Cast) -> None:
    for changes in ({"requests_per_day": 5}, {"tokens_per_day": 9}, {"requests_per_day": None}):
        actions.set_project_model_limit(cast.project, "m", changes, acting_user=cast.owner)
    limit = ProjectModelLimit.objects.get()

    assert (limit.requests_per_day, limit.tokens_per_day) == (None, 9)
    assert AuditEvent.objects.filter(action="rate_limit.updated").latest("pk").before == {
        "requests_per_day": 5
    }


@pytest.mark.django_db(transaction=True)
def test_a_limit_set_at_once_is_one_row() -> None:
    cast = build_cast()
    at_once(
        *[
            lambda n=n: actions.set_project_model_limit(
                cast.project, "m", {"requests_per_day": n}, acting_user=None
            )
            for n in range(4)
        ]
    )
    assert ProjectModelLimit.objects.count() == 1 and audited("rate_limit.updated") == 4


def test_people_of_a_project_are_people_of_its_organization(cast: Cast) -> None:
    with pytest.raises(NotFound):
        actions.add_project_member(cast.project, cast.stranger, "viewer", acting_user=cast.owner)
    with pytest.raises(InvalidInput):
        actions.add_project_member(cast.project, cast.viewer, "king", acting_user=cast.owner)
    actions.add_project_member(cast.project, cast.viewer, "member", acting_user=cast.owner)
    with pytest.raises(InvalidInput, match="already"):
        actions.add_project_member(cast.project, cast.viewer, "owner", acting_user=cast.owner)

    assert ProjectMembership.objects.get().role == "member"


def test_a_role_that_manages_one_project_manages_no_other(cast: Cast) -> None:
    second = actions.create_project(cast.organization, "Second", acting_user=cast.owner)
    actions.add_project_member(second, cast.viewer, "owner", acting_user=cast.owner)
    actions.add_project_member(second, cast.member, "owner", acting_user=cast.viewer)
    with pytest.raises(AccessDenied):
        actions.add_project_member(cast.project, cast.member, "viewer", acting_user=cast.billing)
    with pytest.raises(AccessDenied):
        actions.add_project_member(cast.project, cast.viewer, "owner", acting_user=cast.viewer)

    assert ProjectMembership.objects.filter(project=cast.project).count() == 0
