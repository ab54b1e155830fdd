"""Changes to tenants: one transaction, one audit row, one notice on commit."""

from __future__ import annotations

import threading
from datetime import timedelta

import psycopg
import pytest
from django.db import connection, transaction
from django.utils import timezone

from tenants import actions, keys
from tenants.errors import AlreadyDone, InvalidInput, OrganizationSuspended
from tenants.models import ApiKey, AuditEvent, Membership, Organization, Plan, Project, Role
from tests.cast import Cast, build_cast

BAD_NAMES = ("", "   ", "x" * 121, "two\nlines", "null\0byte", "bell\a", "\u202ertl")


def audited(action: str) -> int:
    return AuditEvent.objects.filter(action=action).count()


def test_a_new_organization_has_an_owner_a_project_and_the_default_plan(cast: Cast) -> None:
    organization = actions.create_organization("  New  ", acting_user=cast.staff)

    assert organization.name == "New"
    assert organization.plan.is_default
    assert organization.projects.count() == 1
    membership = Membership.objects.get(organization=organization)
    assert (membership.user, membership.role) == (cast.staff, Role.OWNER)


def test_without_a_default_plan_nothing_is_created(cast: Cast) -> None:
    Plan.objects.update(is_default=False)
    before = Organization.objects.count()

    with pytest.raises(InvalidInput, match="no default plan"):
        actions.create_organization("New", acting_user=cast.owner)
    assert Organization.objects.count() == before


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bad_name_is_refused_everywhere(cast: Cast, name: str) -> None:
    before = (Organization.objects.count(), Project.objects.count(), ApiKey.objects.count())

    for attempt in (
        lambda: actions.create_organization(name, acting_user=cast.owner),
        lambda: actions.create_project(cast.organization, name, acting_user=cast.owner),
        lambda: actions.create_api_key(cast.project, name, acting_user=cast.owner),
        lambda: actions.update_organization(
            cast.organization, {"name": name}, acting_user=cast.owner
        ),
    ):
        with pytest.raises(InvalidInput) as refusal:
            attempt()
        assert refusal.value.param == "name"
    after = (Organization.objects.count(), Project.objects.count(), ApiKey.objects.count())
    assert after == before
    assert Organization.objects.get(pk=cast.organization.pk).name == "Acme"


def test_a_new_key_is_stored_without_its_text(cast: Cast, settings: object) -> None:
    key, text = actions.create_api_key(cast.project, "CI", acting_user=cast.member)

    row = ApiKey.objects.filter(pk=key.pk).values().get()
    assert bytes(row["secret_hmac"]) == keys.digest(text, settings.API_KEY_PEPPER)  # type: ignore[attr-defined]
    assert text not in str(row)
    event = AuditEvent.objects.get(object_id=key.public_id)
    assert text not in str(event.after) and event.acting_user == cast.member


def test_a_key_minted_twice_under_one_id_exists_once(cast: Cast) -> None:
    first, _ = actions.create_api_key(
        cast.project, "CI", acting_user=cast.owner, public_id="key_once"
    )
    with pytest.raises(AlreadyDone):
        actions.create_api_key(cast.project, "CI", acting_user=cast.owner, public_id="key_once")

    assert ApiKey.objects.filter(public_id="key_once").get() == first
    assert AuditEvent.objects.filter(object_id="key_once").count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_submissions_at_once_create_one_key() -> None:
    cast = build_cast()
    start, outcomes = threading.Barrier(4), []

    def submit() -> None:
        try:
            start.wait()
            actions.create_api_key(cast.project, "CI", acting_user=None, public_id="key_race")
            outcomes.append("created")
        except AlreadyDone:
            outcomes.append("refused")
        finally:
            connection.close()

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["created", "refused", "refused", "refused"]
    assert ApiKey.objects.filter(public_id="key_race").count() == 1


def test_a_suspended_organization_creates_no_key(cast: Cast) -> None:
    project = cast.suspended_organization.projects.get()
    with pytest.raises(OrganizationSuspended):
        actions.create_api_key(project, "CI", acting_user=cast.suspended)

    assert project.api_keys.count() == 1


def test_a_key_that_expired_before_its_birth_is_refused(cast: Cast) -> None:
    with pytest.raises(InvalidInput) as refusal:
        actions.create_api_key(
            cast.project, "CI", acting_user=cast.owner, expires_at=timezone.now()
        )

    assert refusal.value.param == "expires_at"


def test_revoking_twice_is_revoking_once(cast: Cast) -> None:
    first = actions.revoke_api_key(cast.owner_api_key, acting_user=cast.owner).revoked_at
    second = actions.revoke_api_key(cast.owner_api_key, acting_user=cast.admin).revoked_at

    assert first == second
    assert audited("api_key.revoked") == 1


def test_two_projects_of_one_name_are_refused_and_two_organizations_may_share_it(
    cast: Cast,
) -> None:
    actions.create_project(cast.organization, "Search", acting_user=cast.owner)
    with pytest.raises(InvalidInput, match="exists"):
        actions.create_project(cast.organization, "Search", acting_user=cast.owner)
    actions.create_project(cast.other_organization, "Search", acting_user=cast.stranger)

    assert Project.objects.filter(name="Search").count() == 2


@pytest.mark.django_db(transaction=True)
def test_the_notice_and_the_audit_row_come_with_the_commit_or_not_at_all() -> None:
    cast = build_cast()
    parameters = connection.get_connection_params()
    wanted = ("dbname", "user", "password", "host", "port")
    parameters = {name: parameters[name] for name in wanted if name in parameters}
    with psycopg.connect(**parameters, autocommit=True) as listener:
        listener.execute(f"LISTEN {actions.CHANNEL}")
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            actions.revoke_api_key(cast.owner_api_key, acting_user=cast.owner)
            raise ZeroDivisionError
        assert not list(listener.notifies(timeout=0.2, stop_after=1))
        assert audited("api_key.revoked") == 0

        actions.revoke_api_key(ApiKey.objects.get(pk=cast.owner_api_key.pk), acting_user=cast.owner)
        (notice,) = listener.notifies(timeout=10, stop_after=1)
    assert notice.payload == str(cast.organization.pk)
    assert audited("api_key.revoked") == 1


def test_last_used_only_moves_forward(cast: Cast) -> None:
    now = timezone.now()
    owner, stranger = cast.owner_api_key, cast.stranger_api_key

    assert actions.touch_api_keys({owner.pk: now, stranger.pk: now, 2**40: now}) == 2
    earlier = now - timedelta(minutes=1)
    assert actions.touch_api_keys({owner.pk: earlier}) == 0
    assert actions.touch_api_keys({}) == 0
    owner.refresh_from_db()
    assert owner.last_used_at == now
