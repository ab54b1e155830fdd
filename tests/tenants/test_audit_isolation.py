"""Events at once make one chain, and no login but the owner's can change or forge one."""

from __future__ import annotations

import threading

import pytest
from django.db import Error as DatabaseError
from django.db import connection, transaction

from tenants import actions, audit, audit_rows, scope
from tenants.models import AuditEvent, Organization
from tests.cast import Cast, build_cast
from tests.tenants.chains import findings, last_number


@pytest.mark.django_db(transaction=True)
def test_transactions_at_once_make_one_chain_and_a_rollback_leaves_no_gap() -> None:
    cast = build_cast()
    before, start, errors = last_number(cast.organization), threading.Barrier(8), []

    def work(worker: int) -> None:
        try:
            start.wait()
            for number in range(6):
                record_or_roll_back(cast.organization, fails=(worker + number) % 3 == 0)
        except DatabaseError as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not errors
    kept = 8 * 6 * 2 // 3
    assert last_number(cast.organization) == before + kept
    assert findings(cast.organization) == []


def record_or_roll_back(organization: Organization, fails: bool) -> None:
    try:
        with scope.for_organization(organization.pk), transaction.atomic():
            audit.record_event(
                acting_user=None, action="x", object_type="x", object_id="x",
                organization=organization,
            )  # fmt: skip
            if fails:
                raise ZeroDivisionError
    except ZeroDivisionError:
        pass


@pytest.mark.django_db(transaction=True)
def test_a_transaction_waits_for_the_one_that_extends_the_same_chain_and_for_no_other() -> None:
    cast = build_cast()
    done = threading.Event()

    def add() -> None:
        try:
            actions.create_project(cast.organization, "Second", acting_user=None)
        finally:
            done.set()
            connection.close()

    thread = threading.Thread(target=add)
    with transaction.atomic():
        actions.create_project(cast.organization, "First", acting_user=None)
        thread.start()
        wait_for_a_blocked_statement()
        assert not done.is_set()
        # Another organization's chain is free, and ours is not its to wait for.
        other = threading.Thread(target=add_elsewhere, args=(cast.other_organization,))
        other.start()
        other.join(timeout=10)
        assert not other.is_alive()
    thread.join(timeout=10)

    names = [event.after["name"] for event in AuditEvent.objects.order_by("number").filter(
        organization=cast.organization, action="project.created")]  # fmt: skip
    assert names == ["First", "Second"]
    assert findings(cast.organization) == []


def add_elsewhere(organization: Organization) -> None:
    try:
        actions.create_project(organization, "Elsewhere", acting_user=None)
    finally:
        connection.close()


def wait_for_a_blocked_statement() -> None:
    for _ in range(1000):
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            if cursor.fetchone()[0]:
                return
            cursor.execute("SELECT pg_sleep(0.01)")
    raise AssertionError("nobody waits")


# --- Who may ------------------------------------------------------------------------------------


def refuses(statement: str) -> None:
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


@pytest.mark.parametrize("statement", [
    "UPDATE tenants_auditevent SET action = 'x'",
    "DELETE FROM tenants_auditevent",
    "TRUNCATE tenants_auditevent",
    "SELECT * FROM tenants_auditchain",
    "UPDATE tenants_auditchain SET number = 0",
])  # fmt: skip
def test_the_web_role_can_neither_change_nor_see_a_chain(
    history: Organization, statement: str
) -> None:
    with scope.entered(scope.Scope(organization=history.pk)):
        refuses(statement)
    assert findings(history) == []


@pytest.mark.parametrize("statement", [
    "UPDATE tenants_auditevent SET action = 'x'",
    "DELETE FROM tenants_auditevent",
    "UPDATE tenants_auditchain SET number = 0",
    "DELETE FROM tenants_auditchain",
    "INSERT INTO tenants_auditchain VALUES (-1, 0, '')",
])  # fmt: skip
def test_staff_can_read_chains_and_change_none(history: Organization, statement: str) -> None:
    with scope.for_staff():
        assert audit_rows.get_head(history.pk) is not None
        refuses(statement)
    assert findings(history) == []


def test_the_web_role_reads_its_own_events_and_no_foreign_one(cast: Cast) -> None:
    with scope.entered(scope.Scope(organization=cast.organization.pk)):
        with connection.cursor() as cursor:
            cursor.execute("SELECT DISTINCT organization_id FROM tenants_auditevent")
            assert cursor.fetchall() == [(cast.organization.pk,)]
        assert list(audit_rows.export_rows(cast.other_organization)) == []
        assert list(audit_rows.export_rows(cast.organization))
        assert list(audit_rows.export_platform_rows()) == []


def test_the_web_role_cannot_write_into_a_foreign_chain(cast: Cast) -> None:
    own = scope.Scope(organization=cast.organization.pk)
    with scope.entered(own), pytest.raises(DatabaseError), transaction.atomic():
        audit.record_event(
            acting_user=None, action="x", object_type="x", object_id="x",
            organization=cast.other_organization,
        )  # fmt: skip
    assert findings(cast.other_organization) == []
