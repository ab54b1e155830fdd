"""``tenants.postgres``: no connection, however it is shared or broken, keeps another's scope.

With the three logins of the suite's own server, so that what an installation's processes
do is what runs here.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import DatabaseError, IntegrityError, ProgrammingError, connection, transaction
from django.db import connections as django_connections
from django.db.backends.base.base import NO_DB_ALIAS

from config.settings import login_from_url
from deploy.local import postgres
from tenants import scope
from tenants.models import Organization, Plan, Project
from tenants.postgres.base import DatabaseWrapper
from tenants.postgres.listening import listener_parameters
from tenants.scope import Login, Scope

pytestmark = pytest.mark.django_db(transaction=True)
WEB, STAFF, OWNER = Scope(), Scope(login=Login.STAFF), Scope(login=Login.OWNER)


@pytest.fixture
def logins() -> dict[str, dict[str, str]]:
    config = Path(settings.STATE_DIR) / "postgres.json"
    if not config.is_file():
        pytest.skip("the suite runs on another server than the embedded one")
    urls = postgres.addresses(Path(settings.STATE_DIR))
    return {
        Login.WEB: login_from_url(urls["DATABASE_WEB_URL"]),
        Login.STAFF: login_from_url(urls["DATABASE_STAFF_URL"]),
    }


@contextmanager
def installed(logins: Mapping[str, dict[str, str]], **changes: Any) -> Iterator[DatabaseWrapper]:
    """The suite's database under Django's default alias, with these logins, from scratch."""
    before = django_connections["default"]
    before.close()
    before.close_pool()
    settings_dict = deepcopy({**before.settings_dict, "LOGINS": logins, **changes})
    django_connections["default"] = wrapper = DatabaseWrapper(settings_dict, alias="default")
    try:
        yield wrapper
    finally:
        wrapper.in_atomic_block = False  # a test may have failed inside one
        wrapper.close()
        wrapper.close_pool()
        django_connections["default"] = before


@pytest.fixture
def database(logins: dict[str, dict[str, str]]) -> Iterator[DatabaseWrapper]:
    """With a login for each role, as a web process that had the owner's as well."""
    with installed(logins) as wrapper:
        yield wrapper


@pytest.fixture
def one_connection(logins: dict[str, dict[str, str]]) -> Iterator[DatabaseWrapper]:
    """One for each login, which everybody gets in turn."""
    options = {**connection.settings_dict["OPTIONS"]}
    options["pool"] = {"min_size": 1, "max_size": 1, "timeout": 5}
    with installed(logins, OPTIONS=options) as wrapper:
        yield wrapper


@pytest.fixture
def organizations(db: None) -> tuple[int, int]:
    plan = Plan.objects.create(slug="test", name="Test")
    made = [Organization.objects.create(name=name, plan=plan) for name in ("Ours", "Theirs")]
    for organization in made:
        Project.objects.create(organization=organization, name=organization.name)
    return made[0].pk, made[1].pk


def ask(sql: str, *params: object) -> Any:
    """The first column of the only row."""
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchone()[0]


def who() -> str:
    return str(ask("SELECT session_user || '/' || current_user"))


def seen() -> list[int]:
    return list(ask("SELECT coalesce(array_agg(organization_id), '{}') FROM tenants_project"))


def of(organization: int) -> Any:
    return scope.entered(Scope(organization=organization))


# --- Logins ---------------------------------------------------------------------------------------


def test_each_scope_logs_in_as_its_role(database: DatabaseWrapper) -> None:
    for acting, expected in ((WEB, "sluice_web"), (STAFF, "sluice_staff"), (OWNER, "sluice")) * 2:
        with scope.entered(acting):
            assert who() == f"{expected}/{expected}"


def test_a_transaction_takes_the_login_of_its_scope(database: DatabaseWrapper) -> None:
    """Not of the statement before it: staff on a web login would be refused, and the
    web on a staff login would be one RESET ROLE away from every tenant."""
    for first, then, expected in ((WEB, STAFF, "sluice_staff"), (STAFF, WEB, "sluice_web")):
        with scope.entered(first):
            who()
        with scope.entered(then), transaction.atomic():
            assert who() == f"{expected}/{expected}"


def test_a_web_transaction_cannot_go_on_as_staff(database: DatabaseWrapper) -> None:
    with scope.entered(WEB), transaction.atomic():
        who()
        for other in (STAFF, OWNER):
            with (
                scope.entered(other),
                pytest.raises(ProgrammingError, match="cannot go on as staff"),
            ):
                who()
        assert who() == "sluice_web/sluice_web"


def test_raw_sql_of_the_web_cannot_become_anybody(database: DatabaseWrapper) -> None:
    for sql in (
        "SET ROLE sluice_staff", "SET ROLE sluice", "SET SESSION AUTHORIZATION sluice_staff",
        "SELECT set_config('role', 'sluice_staff', false)",
    ):  # fmt: skip
        with scope.entered(WEB), pytest.raises(ProgrammingError, match="permission denied"):
            ask(sql)
    with scope.entered(WEB), connection.cursor() as cursor:
        cursor.execute("RESET ROLE")
        cursor.execute("RESET ALL")
        cursor.execute("SELECT current_user, count(*) FROM tenants_project")
        assert cursor.fetchone() == ("sluice_web", 0)


def test_staff_may_become_the_web_inside_a_transaction(
    database: DatabaseWrapper, organizations: tuple[int, int]
) -> None:
    with scope.entered(STAFF), transaction.atomic():
        assert len(seen()) == 2
        with of(organizations[0]):
            assert who() == "sluice_staff/sluice_web"
            assert seen() == [organizations[0]]
        assert len(seen()) == 2


def test_a_process_with_the_staff_login_only_acts_as_staff_for_the_owner(
    logins: dict[str, dict[str, str]],
) -> None:
    """``manage.py`` in a container that has no owner's login."""
    staff = logins[Login.STAFF]
    with (
        installed(logins, USER=staff["user"], PASSWORD=staff["password"]),
        scope.entered(OWNER),
    ):
        assert who() == "sluice_staff/sluice_staff"


def test_with_the_owners_login_only_the_role_is_taken_on(organizations: tuple[int, int]) -> None:
    with installed({}):
        with of(organizations[0]):
            assert who() == "sluice/sluice_web"
            assert seen() == [organizations[0]]
        with scope.entered(STAFF):
            assert who() == "sluice/sluice_staff"
        with scope.entered(OWNER):
            assert who() == "sluice/sluice"


def test_a_connection_without_a_database_is_the_owners(
    logins: dict[str, dict[str, str]],
) -> None:
    """It makes and drops test databases, whatever the scope."""
    own = deepcopy({**connection.settings_dict, "LOGINS": logins, "NAME": None})
    wrapper = DatabaseWrapper(own, alias=NO_DB_ALIAS)
    with scope.entered(WEB), wrapper.cursor() as cursor:
        cursor.execute("SELECT current_user")
        assert cursor.fetchone() == ("sluice",)
    wrapper.close()


def test_a_listener_logs_in_as_whoever_may_the_least(
    monkeypatch: pytest.MonkeyPatch, logins: dict[str, dict[str, str]]
) -> None:
    default = settings.DATABASES["default"]
    for given, user in (
        (logins, "sluice_web"),
        ({Login.STAFF: logins[Login.STAFF]}, "sluice_staff"),
        ({}, default["USER"]),
    ):
        monkeypatch.setitem(default, "LOGINS", given)
        assert listener_parameters()["user"] == user


# --- Pools -----------------------------------------------------------------------------------------


def test_a_pooled_connection_forgets_the_scope_before(
    one_connection: DatabaseWrapper, organizations: tuple[int, int]
) -> None:
    ours, theirs = organizations
    with of(ours):
        assert seen() == [ours]
        server = ask("SELECT pg_backend_pid()")
        connection.close()
    for acting, expected in ((WEB, []), (Scope(organization=theirs), [theirs]), (WEB, [])):
        with scope.entered(acting):
            assert seen() == expected
            assert ask("SELECT pg_backend_pid()") == server, "the same connection"
        connection.close()


def test_threads_never_get_a_connection_of_another_login(database: DatabaseWrapper) -> None:
    """All at once on pools that are not there yet, again and again."""
    expected = {WEB: "sluice_web", STAFF: "sluice_staff", OWNER: "sluice"}
    at_once = threading.Barrier(6)

    def ask_as(acting: Scope) -> tuple[Scope, str]:
        wrapper = DatabaseWrapper(deepcopy(database.settings_dict), alias="default")
        at_once.wait(10)
        try:
            with scope.entered(acting), wrapper.cursor() as cursor:
                cursor.execute("SELECT session_user")
                return acting, cursor.fetchone()[0]
        finally:
            wrapper.close()

    with ThreadPoolExecutor(6) as threads:
        for _ in range(20):
            for acting, user in threads.map(ask_as, [WEB, STAFF, OWNER] * 2):
                assert user == expected[acting]
            database.close_pool()


async def test_tasks_at_once_see_each_its_own(
    database: DatabaseWrapper, organizations: tuple[int, int]
) -> None:
    def look() -> list[int]:
        try:
            return seen()
        finally:
            connection.close()

    async def request(organization: int | None) -> bool:
        with scope.entered(Scope(organization=organization)):
            await asyncio.sleep(0)
            for is_sensitive in (True, False):
                found = await sync_to_async(look, thread_sensitive=is_sensitive)()
                if found != ([] if organization is None else [organization]):
                    return False
        return True

    # Threads that sync_to_async starts look up "default" for themselves.
    answers = await asyncio.gather(*(request(pk) for pk in (*organizations, None) * 10))
    assert all(answers)


# --- Transactions --------------------------------------------------------------------------------------


def fail() -> None:
    ask("SELECT 1 / 0")


@pytest.mark.parametrize("error", [DatabaseError, ZeroDivisionError])
def test_a_savepoint_rolled_back_leaves_the_scope_before_or_none(
    database: DatabaseWrapper, organizations: tuple[int, int], error: type[Exception]
) -> None:
    ours, theirs = organizations

    def inner() -> None:
        assert seen() == [theirs]
        if error is DatabaseError:
            fail()
        raise ZeroDivisionError

    with of(ours), transaction.atomic():
        assert seen() == [ours]
        with pytest.raises(error), transaction.atomic(), of(theirs):
            inner()
        assert seen() == [ours]
        with of(theirs):
            with pytest.raises(error), transaction.atomic():
                inner()
            assert seen() == [theirs], "the settings went back with the savepoint"
        assert seen() == [ours]
    assert connection.needs_rollback is False


def test_a_savepoint_rolled_back_in_another_scope_than_it_was_made_in(
    database: DatabaseWrapper, organizations: tuple[int, int]
) -> None:
    ours, theirs = organizations
    with of(ours), transaction.atomic():
        savepoint = transaction.savepoint()
        with of(theirs):
            assert seen() == [theirs]
            transaction.savepoint_rollback(savepoint)
            assert seen() == [theirs], "the server went back to ours"


def test_a_transaction_goes_on_after_an_error_in_a_savepoint(
    database: DatabaseWrapper, organizations: tuple[int, int]
) -> None:
    """The rollback to the savepoint is itself a statement, of a transaction in error."""
    with scope.entered(STAFF), transaction.atomic():
        with pytest.raises(IntegrityError), transaction.atomic():
            Project.objects.create(organization_id=organizations[0], name="Ours")
        Project.objects.create(organization_id=organizations[0], name="Another")
    assert Project.objects.filter(name="Another").exists()


@pytest.mark.parametrize("error", [DatabaseError, ZeroDivisionError])
def test_a_transaction_rolled_back_takes_its_scope_with_it(
    database: DatabaseWrapper, organizations: tuple[int, int], error: type[Exception]
) -> None:
    ours, theirs = organizations
    with of(ours):
        assert seen() == [ours]
    with of(theirs):
        with pytest.raises(error), transaction.atomic():
            assert seen() == [theirs]
            if error is DatabaseError:
                fail()
            raise ZeroDivisionError
        assert seen() == [theirs]


def test_a_commit_that_rolls_back_in_silence_does_so_too(
    database: DatabaseWrapper, organizations: tuple[int, int]
) -> None:
    """PostgreSQL answers COMMIT after a swallowed error with a rollback, without an error."""
    ours, theirs = organizations
    with of(ours):
        assert seen() == [ours]
    with of(theirs):
        with transaction.atomic():
            assert seen() == [theirs]
            with pytest.raises(DatabaseError):
                fail()
        assert seen() == [theirs]


def test_a_commit_that_fails_does_so_too(
    database: DatabaseWrapper, organizations: tuple[int, int]
) -> None:
    ours, theirs = organizations
    with of(ours):
        assert seen() == [ours]
    with of(theirs):
        with pytest.raises(IntegrityError), transaction.atomic():
            Project.objects.filter(organization_id=theirs).update(organization_id=theirs)
            connection.cursor().execute(
                "INSERT INTO tenants_groupmember (organization_id, group_id, user_id, created_at)"
                " VALUES (%s, 0, 0, now())",
                [theirs],
            )
        assert seen() == [theirs]


def test_a_scope_that_changes_within_a_transaction_holds_from_there(
    database: DatabaseWrapper, organizations: tuple[int, int]
) -> None:
    with of(organizations[0]), transaction.atomic():
        for organization in organizations * 2:
            with of(organization), transaction.atomic():
                assert seen() == [organization]
        assert seen() == [organizations[0]]


# --- Cursors and connections that live on ------------------------------------------------------------------


def test_a_cursor_follows_the_scope_it_is_used_in(
    database: DatabaseWrapper, organizations: tuple[int, int]
) -> None:
    ours, theirs = organizations
    with of(ours), connection.cursor() as cursor:
        with of(theirs):
            assert seen() == [theirs]
            cursor.execute("SELECT organization_id FROM tenants_project")
            assert cursor.fetchall() == [(theirs,)]
        cursor.execute("SELECT organization_id FROM tenants_project")
        assert cursor.fetchall() == [(ours,)]


@pytest.mark.parametrize("has_logins", [True, False])
def test_a_cursor_left_open_does_not_act_as_staff_afterwards(
    logins: dict[str, dict[str, str]], organizations: tuple[int, int], has_logins: bool
) -> None:
    with installed(logins if has_logins else {}):
        with scope.entered(STAFF):
            cursor = connection.cursor()
            cursor.execute("SELECT count(*) FROM tenants_project")
            assert cursor.fetchone() == (2,)
        with of(organizations[0]):
            cursor.execute("SELECT organization_id FROM tenants_project")
            assert cursor.fetchall() == [(organizations[0],)]
        cursor.close()


def test_rows_that_come_in_pieces_stay_those_of_the_scope_they_were_asked_in(
    database: DatabaseWrapper, organizations: tuple[int, int]
) -> None:
    ours, theirs = organizations
    with scope.entered(STAFF):
        for number in range(10):
            Project.objects.create(organization_id=ours, name=f"Ours {number}")
    with of(ours):
        pieces = Project.objects.iterator(chunk_size=2)
        found = [next(pieces)]
    with of(theirs):
        assert seen() == [theirs]
        found += pieces
    assert {project.organization_id for project in found} == {ours}
    assert len(found) == 11


def test_a_closed_connection_comes_back_in_the_current_scope(
    database: DatabaseWrapper, organizations: tuple[int, int]
) -> None:
    with of(organizations[0]):
        assert seen() == [organizations[0]]
        connection.close()
        assert seen() == [organizations[0]]
    with scope.entered(WEB):
        assert seen() == []
    with of(organizations[0]), pytest.raises(DatabaseError), transaction.atomic():
        seen()
        connection.close()
        seen()
    with scope.entered(WEB):
        assert seen() == []


def test_a_scope_that_could_not_be_told_is_told_again(
    database: DatabaseWrapper, organizations: tuple[int, int]
) -> None:
    with of(organizations[0]):
        assert seen() == [organizations[0]]
    unsayable = scope.entered(Scope(key_lookup="nul\x00byte"))
    with unsayable, pytest.raises((DatabaseError, ValueError)):
        seen()
    with of(organizations[1]):
        assert seen() == [organizations[1]]


def test_a_connection_that_broke_leaves_no_scope(
    one_connection: DatabaseWrapper, organizations: tuple[int, int]
) -> None:
    with of(organizations[0]):
        assert seen() == [organizations[0]]
    with of(organizations[1]):
        with pytest.raises(DatabaseError):
            ask("SELECT pg_terminate_backend(pg_backend_pid())")
        connection.close()
        assert seen() == [organizations[1]]


# --- A database that is emptied after each test ------------------------------------------------------------


@pytest.mark.parametrize("time", [1, 2])
def test_flushing_needs_no_scope_and_keeps_the_grants(
    database: DatabaseWrapper, organizations: tuple[int, int], time: int
) -> None:
    with scope.entered(OWNER):
        assert Organization.objects.count() == 2, "the time before was emptied"
    with of(organizations[0]):
        assert seen() == [organizations[0]]
