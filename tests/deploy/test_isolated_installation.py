"""A database as an installation has it: migrated by its owner, asked by its other logins."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from deploy.local import postgres
from tests.harness.services import CHECKOUT

FILL = """
from tenants.models import Organization, Plan
from tests.tenants.rows import Tenant, model_of, protected_tables
from django.db import transaction
plan = Plan.objects.create(slug="test", name="Test")
for name in ("Ours", "Theirs"):
    with transaction.atomic():
        tenant = Tenant(Organization.objects.create(name=name, plan=plan))
        for table in protected_tables():
            tenant.row(model_of(table))
    print(tenant.organization.pk)
"""
APPEND_ONLY = (
    "tenants_auditevent", "billing_usageevent", "billing_ledgertransaction", "billing_ledgerentry"
)  # fmt: skip


@dataclass(frozen=True)
class Installation:
    state_dir: Path
    urls: Mapping[str, str]
    ours: int
    theirs: int

    def connect(self, setting: str, organization: int | None = None) -> psycopg.Connection:
        connection = psycopg.connect(self.urls[setting], autocommit=True)
        if organization is not None:
            connection.execute(
                "SELECT set_config('sluice.organization', %s, false)", [str(organization)]
            )
        return connection


def manage(urls: Mapping[str, str], *arguments: str) -> str:
    """``manage.py`` in a process that has these logins and no other."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DATABASE_", "SLUICE_STATE"))
    }
    result = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=CHECKOUT,
        env={**kept, "SLUICE_STATE_DIR": "/nonexistent", **urls},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    folder = Path(tempfile.mkdtemp(prefix="sluice-test-"))
    folder.chmod(0o711)
    try:
        owner = {"DATABASE_URL": postgres.start(folder)}
        manage(owner, "migrate", "--no-input", "--verbosity=0")
        ours, theirs = map(int, manage(owner, "shell", "--verbosity=0", "-c", FILL).split()[-2:])
        yield Installation(folder, postgres.addresses(folder), ours, theirs)
    finally:
        postgres.remove(folder)
        shutil.rmtree(folder)


def protected(connection: psycopg.Connection) -> dict[str, str]:
    names = connection.execute("SELECT relname FROM pg_class WHERE relrowsecurity").fetchall()
    return {
        name: "id" if name == "tenants_organization" else "organization_id" for (name,) in names
    }


def organizations_in(connection: psycopg.Connection, table: str, column: str) -> set[int]:
    return {pk for (pk,) in connection.execute(f"SELECT {column} FROM {table}")}


def test_the_web_sees_the_tenant_it_names_and_no_other(installation: Installation) -> None:
    both = {installation.ours, installation.theirs}
    with installation.connect("DATABASE_URL") as owner:
        tables = protected(owner)
        assert len(tables) >= 19
        assert all(organizations_in(owner, *table) >= both for table in tables.items())
    for organization, expected in ((None, set()), (installation.ours, {installation.ours})):
        with installation.connect("DATABASE_WEB_URL", organization) as web:
            for table in tables.items():
                assert organizations_in(web, *table) == expected, table
    with installation.connect("DATABASE_STAFF_URL") as staff:
        assert all(organizations_in(staff, *table) >= both for table in tables.items())


@pytest.mark.parametrize(
    "trick",
    [
        "RESET ROLE",
        "RESET ALL",
        "SET row_security = off",
        "SET sluice.organization = ''",
        "SET search_path = pg_temp, public; CREATE TEMP VIEW tenants_membership AS SELECT 1 AS a",
        "DISCARD ALL",
        "CREATE FUNCTION pg_temp.sluice_organization() RETURNS bigint LANGUAGE sql AS"
        " 'SELECT id FROM tenants_organization'; SET search_path = pg_temp, public",
    ],
)
def test_no_trick_of_a_session_shows_foreign_rows(installation: Installation, trick: str) -> None:
    with installation.connect("DATABASE_WEB_URL", installation.ours) as web:
        web.execute(trick)
        for table, column in (
            ("public.tenants_apikey", "organization_id"), ("public.tenants_organization", "id")
        ):  # fmt: skip
            try:
                assert organizations_in(web, table, column) <= {installation.ours}
            except errors.InsufficientPrivilege as error:
                assert "row-level security" in str(error)


def test_a_leaky_condition_sees_no_foreign_row(installation: Installation) -> None:
    """A cheap function of the caller's own is not asked before the policy."""
    with installation.connect("DATABASE_WEB_URL", installation.ours) as web:
        seen: list[str] = []
        web.add_notice_handler(lambda notice: seen.append(str(notice.message_primary)))
        web.execute(
            "CREATE FUNCTION pg_temp.tell(text) RETURNS boolean COST 0.0001 LANGUAGE plpgsql AS"
            " $$BEGIN RAISE NOTICE '%', $1; RETURN true; END$$"
        )
        web.execute("SELECT FROM tenants_organization WHERE pg_temp.tell(name)")
    assert seen == ["Ours"]


def test_a_session_does_not_see_what_others_of_its_role_run(installation: Installation) -> None:
    with (
        installation.connect("DATABASE_WEB_URL", installation.theirs) as theirs,
        installation.connect("DATABASE_WEB_URL", installation.ours) as ours,
    ):
        theirs.execute("SELECT 'their secret'")
        shown = ours.execute("SELECT query FROM pg_stat_activity").fetchall()
        assert "their secret" not in str(shown)


def test_foreign_rows_cannot_be_written(installation: Installation) -> None:
    theirs = installation.theirs
    with installation.connect("DATABASE_WEB_URL", installation.ours) as web:
        for sql in (
            f"UPDATE tenants_project SET name = 'x' WHERE organization_id = {theirs}",
            f"DELETE FROM tenants_membership WHERE organization_id = {theirs}",
            f"UPDATE tenants_organization SET suspended_at = now() WHERE id = {theirs}",
        ):
            assert web.execute(sql).rowcount == 0, sql
        for sql in (
            f"UPDATE tenants_project SET organization_id = {theirs}",
            f"INSERT INTO tenants_groupmember (organization_id, group_id, user_id, created_at)"
            f" SELECT {theirs}, group_id, user_id, now() FROM tenants_groupmember",
        ):
            with pytest.raises(errors.InsufficientPrivilege, match="row-level security"):
                web.execute(sql)


@pytest.mark.parametrize("table", APPEND_ONLY)
def test_trail_and_ledger_are_changed_by_neither(installation: Installation, table: str) -> None:
    for setting in ("DATABASE_WEB_URL", "DATABASE_STAFF_URL"):
        with installation.connect(setting, installation.ours) as connection:
            for sql in (f"UPDATE {table} SET id = id", f"DELETE FROM {table}", f"TRUNCATE {table}"):
                with pytest.raises((errors.InsufficientPrivilege, errors.RestrictViolation)):
                    connection.execute(sql)


def test_neither_owns_anything_and_the_owner_does(installation: Installation) -> None:
    owners = "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    with installation.connect("DATABASE_STAFF_URL") as staff:
        assert staff.execute(owners).fetchall() == [("sluice",)]
        with pytest.raises(errors.InsufficientPrivilege):
            staff.execute("ALTER TABLE tenants_project ADD COLUMN mine int")
        with pytest.raises(errors.InsufficientPrivilege):
            staff.execute("SET ROLE sluice")


def test_a_command_without_the_owners_login_acts_as_staff(installation: Installation) -> None:
    """As in the web container, which has no other logins."""
    given = {name: url for name, url in installation.urls.items() if name != "DATABASE_URL"}
    look = "from tenants.models import Project; print(Project.objects.count() >= 2)"
    assert manage(given, "shell", "--verbosity=0", "-c", look).split()[-1] == "True"
    manage(given, "bootstrap")


# --- Backups -----------------------------------------------------------------------------------------


def run_program(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [postgres._installed_binaries() / name, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_dump_by_the_owner_is_whole_and_isolated_where_it_is_restored(
    installation: Installation, tmp_path: Path
) -> None:
    dump = str(tmp_path / "sluice.dump")
    made = run_program(
        "pg_dump", "--format=custom", f"--file={dump}", installation.urls["DATABASE_URL"]
    )
    assert made.returncode == 0, made.stderr
    other = Path(tempfile.mkdtemp(prefix="sluice-test-"))
    other.chmod(0o711)
    try:
        owner = postgres.start(other)
        restored = run_program(
            "pg_restore", "--exit-on-error", "--no-owner", f"--dbname={owner}", dump
        )
        assert restored.returncode == 0, restored.stderr
        manage({"DATABASE_URL": owner}, "migrate", "--no-input", "--verbosity=0")
        copy = Installation(
            other, postgres.addresses(other), installation.ours, installation.theirs
        )
        with (
            installation.connect("DATABASE_URL") as before,
            copy.connect("DATABASE_URL") as after,
            copy.connect("DATABASE_WEB_URL", copy.ours) as web,
        ):
            for table, column in protected(before).items():
                rows = f"SELECT * FROM {table} ORDER BY 1"
                assert after.execute(rows).fetchall() == before.execute(rows).fetchall()
                assert organizations_in(web, table, column) == {copy.ours}
    finally:
        postgres.remove(other)
        shutil.rmtree(other)


@pytest.mark.parametrize("setting", ["DATABASE_WEB_URL", "DATABASE_STAFF_URL"])
def test_a_dump_by_another_is_refused_and_not_made_in_part(
    installation: Installation, tmp_path: Path, setting: str
) -> None:
    dump = f"--file={tmp_path / 'part.dump'}"
    made = run_program("pg_dump", "--format=custom", dump, installation.urls[setting])
    assert made.returncode != 0


# Last, because what later tables held goes with them.
def test_the_owner_migrates_back_and_forth(installation: Installation) -> None:
    owner = {"DATABASE_URL": installation.urls["DATABASE_URL"]}
    with installation.connect("DATABASE_URL") as connection:
        before = protected(connection)
        manage(owner, "migrate", "tenants", "0003", "--no-input", "--verbosity=0")
        assert protected(connection) == {}
        manage(owner, "migrate", "--no-input", "--verbosity=0")
        assert protected(connection) == before
