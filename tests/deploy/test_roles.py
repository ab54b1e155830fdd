"""The three roles of an installation, on servers that are really started."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg
import pytest
from psycopg import errors, sql

from deploy.local import files, postgres, programs, services
from deploy.local.files import LocalError
from tests.harness.services import CHECKOUT

ROLES_SQL = CHECKOUT / "deploy" / "postgres" / "roles.sql"
APART = {"rolsuper": False, "rolbypassrls": False, "rolcreaterole": False, "rolcreatedb": False}
PASSWORDS = {
    "DATABASE_OWNER_PASSWORD": "the owner's",
    "DATABASE_WEB_PASSWORD": 'the "web"\'s',
    "DATABASE_STAFF_PASSWORD": "the\\staff's",
}


def make_folder() -> Path:
    # Not tmp_path: pytest keeps that private to the user, and root's server is nobody's.
    folder = Path(tempfile.mkdtemp(prefix="sluice-test-"))
    folder.chmod(0o711)
    return folder


@pytest.fixture
def state_dir() -> Iterator[Path]:
    folder = make_folder()
    yield folder
    postgres.remove(folder)
    shutil.rmtree(folder)


def attributes(url: str) -> dict[str, object]:
    """What the role behind ``url`` may do by itself."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb FROM pg_roles"
            " WHERE rolname = session_user"
        ).fetchone()
    assert row is not None
    return dict(zip(APART, row, strict=True))


def can_become(url: str, role: str) -> bool:
    with psycopg.connect(url) as connection:
        try:
            connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        except errors.InsufficientPrivilege:
            return False
    return True


def check_logins(web: str, staff: str, owner: str) -> None:
    for url in (web, staff):
        assert attributes(url) == APART
    became = {
        (name, role): can_become(url, role)
        for name, url in (("web", web), ("staff", staff), ("owner", owner))
        for role in ("sluice", "sluice_web", "sluice_staff", "postgres")
    }
    assert {pair for pair, is_possible in became.items() if is_possible} == {
        ("web", "sluice_web"),
        ("staff", "sluice_staff"),
        ("staff", "sluice_web"),
        ("owner", "sluice"),
        ("owner", "sluice_web"),
        ("owner", "sluice_staff"),
    }
    with psycopg.connect(web) as connection:
        with pytest.raises(errors.InsufficientPrivilege), connection.transaction():
            connection.execute("SET track_activities = on")
        with pytest.raises(errors.InsufficientPrivilege), connection.transaction():
            connection.execute("CREATE TABLE public.mine ()")


# --- The embedded server --------------------------------------------------------------------


def test_each_role_has_a_login_of_its_own(state_dir: Path) -> None:
    owner = postgres.start(state_dir)
    urls = postgres.addresses(state_dir)
    assert urls["DATABASE_URL"] == owner
    assert len({url.split(":")[2] for url in urls.values()}) == 3, "three passwords"
    check_logins(urls["DATABASE_WEB_URL"], urls["DATABASE_STAFF_URL"], owner)
    assert services.POSTGRES.addresses(state_dir) == urls


def make_as_before_the_roles(state_dir: Path) -> str:
    """A server as the version before made it: one role, one password. Its URL."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres, "LOGINS", {"sluice": postgres.LOGINS["sluice"]})
        patch.setattr(
            postgres,
            "_role_commands",
            lambda passwords: (
                "CREATE ROLE sluice LOGIN CREATEDB;\n"
                f"ALTER ROLE sluice PASSWORD '{passwords['sluice']}';\n"
            ),
        )
        url = postgres.start(state_dir)
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS row")
        assert connection.execute("SELECT count(*) FROM pg_roles WHERE rolcanlogin").fetchone() == (
            2,
        )
    return url


@pytest.mark.parametrize("still_runs", [False, True])
def test_an_installation_from_before_the_roles_gets_them(state_dir: Path, still_runs: bool) -> None:
    url = make_as_before_the_roles(state_dir)
    if not still_runs:
        postgres.stop(state_dir)
    assert postgres.start(state_dir) == url, "the owner's password and the port stay"
    urls = postgres.addresses(state_dir)
    check_logins(urls["DATABASE_WEB_URL"], urls["DATABASE_STAFF_URL"], url)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT row FROM kept").fetchone() == (1,)
    server = postgres.pid(state_dir)
    postgres.start(state_dir)
    assert postgres.pid(state_dir) == server, "once is enough"


def test_a_role_that_was_made_without_login_gets_one(state_dir: Path) -> None:
    """As the migration makes it where it may, or a restored dump of roles leaves it."""
    make_as_before_the_roles(state_dir)
    postgres.stop(state_dir)
    place = postgres._place(state_dir)
    single = ("postgres", "--single", "-D", str(place.data), "postgres")
    postgres._run(place, *single, text="CREATE ROLE sluice_web SUPERUSER BYPASSRLS;\n")
    owner = postgres.start(state_dir)
    urls = postgres.addresses(state_dir)
    check_logins(urls["DATABASE_WEB_URL"], urls["DATABASE_STAFF_URL"], owner)


def test_roles_that_cannot_be_made_stop_the_start(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_role_commands", lambda passwords: "ALTER ROLE nobody LOGIN;\n")
    with pytest.raises(LocalError, match='role "nobody" does not exist'):
        postgres.start(state_dir)
    monkeypatch.undo()
    postgres.start(state_dir)


# --- What a DBA runs --------------------------------------------------------------------------


def start_server_with(state_dir: Path, admin: str) -> str:
    """A server without any role of ours; the address of an admin with these attributes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            postgres,
            "_role_commands",
            lambda passwords: f"CREATE ROLE dba LOGIN {admin} PASSWORD 'dba';\n",
        )
        patch.setattr(postgres, "OWNER", "dba")
        patch.setattr(postgres, "DATABASE", "postgres")
        postgres.start(state_dir)
    return f"postgresql://dba:dba@127.0.0.1:{files.read_json(state_dir / 'postgres.json')['port']}"


def run_roles_sql(
    url: str, environment: Mapping[str, str], *options: str
) -> subprocess.CompletedProcess[str]:
    psql = postgres._installed_binaries() / "psql"
    return subprocess.run(
        [psql, "--no-psqlrc", *options, "-f", ROLES_SQL, f"{url}/postgres"],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("admin", ["SUPERUSER", "CREATEROLE CREATEDB"])
def test_roles_sql_makes_what_the_embedded_server_has(state_dir: Path, admin: str) -> None:
    url = start_server_with(state_dir, admin)
    for _ in range(2):
        result = run_roles_sql(url, PASSWORDS)
        assert result.returncode == 0, result.stderr
    host = url.rpartition("@")[2]
    owner, web, staff = (
        psycopg.conninfo.make_conninfo(f"postgresql://{host}/sluice", user=user, password=password)
        for user, password in zip(
            ("sluice", "sluice_web", "sluice_staff"), PASSWORDS.values(), strict=True
        )
    )
    assert attributes(owner) == APART
    for name in (web, staff):
        assert attributes(name) == APART
    assert not can_become(web, "sluice_staff") and not can_become(web, "sluice")
    assert can_become(staff, "sluice_web") and can_become(owner, "sluice_staff")
    with psycopg.connect(owner) as connection:
        connection.execute("CREATE TABLE of_owner ()")
    notice = "sluice_web keeps track_activities"
    assert (notice in result.stderr) is (admin != "SUPERUSER")


@pytest.mark.parametrize("left_out", PASSWORDS)
def test_roles_sql_asks_for_each_password(state_dir: Path, left_out: str) -> None:
    url = start_server_with(state_dir, "SUPERUSER")
    given = {name: value for name, value in PASSWORDS.items() if name != left_out}
    assert run_roles_sql(url, given).returncode != 0
    assert run_roles_sql(url, {**given, left_out: ""}).returncode != 0
    with psycopg.connect(f"{url}/postgres") as connection:
        assert connection.execute(
            "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'sluice%'"
        ).fetchone() == (0,)


@pytest.mark.parametrize(
    ("mistake", "complaint"),
    [
        ("ALTER ROLE sluice_web BYPASSRLS", "may do too much: sluice_web"),
        ("GRANT sluice_staff TO sluice_web", "sluice_web may become sluice_staff"),
    ],
)
def test_roles_sql_complains_of_a_role_that_may_too_much(
    state_dir: Path, mistake: str, complaint: str
) -> None:
    url = start_server_with(state_dir, "SUPERUSER")
    assert run_roles_sql(url, PASSWORDS).returncode == 0
    if "GRANT" in mistake:
        mistake = f"REVOKE sluice_web FROM sluice_staff; {mistake}"
    with psycopg.connect(f"{url}/postgres") as connection:
        connection.execute(mistake)
    result = run_roles_sql(url, PASSWORDS)
    assert result.returncode != 0
    assert complaint in result.stderr or "is a member of role" in result.stderr


# --- Who gets which login ------------------------------------------------------------------------

ALL = {"DATABASE_URL": "owner", "DATABASE_WEB_URL": "web", "DATABASE_STAFF_URL": "staff"}


def logins_of_processes(tmp_path: Path, environment: Mapping[str, str]) -> dict[str, set[str]]:
    choices = programs.Choices(port=8000, chat_replicas=1)
    return {
        spec.name: {name for name in spec.environment if name.startswith("DATABASE_")}
        for group in programs.plan_processes(tmp_path, choices, environment)
        for spec in group
    }


def test_no_process_that_serves_has_the_owners_login(tmp_path: Path) -> None:
    given = {**ALL, "DATABASE_URL_FILE": "/run/owner", "DATABASE_POOL_MAX": "3"}
    staff = {"DATABASE_STAFF_URL", "DATABASE_POOL_MAX"}
    assert logins_of_processes(tmp_path, given) == {
        "web": {"DATABASE_WEB_URL", *staff},
        "chat-1": staff,
        "embed-1": staff,
        "batch": staff,
        "beat": staff,
        "control": staff,
    }


def test_an_owners_login_alone_stays(tmp_path: Path) -> None:
    given = {"DATABASE_URL": "owner"}
    assert set(map(frozenset, logins_of_processes(tmp_path, given).values())) == {
        frozenset({"DATABASE_URL"})
    }


def test_half_of_an_operators_database_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ALL:
        monkeypatch.delenv(name, raising=False)
    assert services.POSTGRES.given() == {}
    monkeypatch.setenv("DATABASE_WEB_URL", "web")
    with pytest.raises(LocalError, match="DATABASE_WEB_URL is set, and DATABASE_URL is not"):
        services.POSTGRES.given()
    monkeypatch.setenv("DATABASE_URL", "owner")
    assert services.POSTGRES.given() == {"DATABASE_URL": "owner", "DATABASE_WEB_URL": "web"}


READ_SETTINGS = "from config import settings as s; print(s.DATABASES['default']['USER'], *s.DATABASES['default']['LOGINS'])"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "owner_of_embedded sluice_web sluice_staff"),
        ({"DATABASE_STAFF_URL": "postgresql://s@h/d"}, "s sluice_staff"),
        ({"DATABASE_URL": "postgresql://o@h/d"}, "o"),
        (
            {"DATABASE_WEB_URL": "postgresql://w@h/d", "DATABASE_STAFF_URL": "postgresql://s@h/d"},
            "s sluice_web sluice_staff",
        ),
    ],
)
def test_a_process_with_a_login_takes_none_from_runtime_env(
    tmp_path: Path, given: dict[str, str], said: str
) -> None:
    (tmp_path / "runtime.env").write_text(
        "DATABASE_URL=postgresql://owner_of_embedded@h/d\n"
        "DATABASE_WEB_URL=postgresql://w@h/d\nDATABASE_STAFF_URL=postgresql://s@h/d\n"
    )
    environment = {"PATH": os.environ["PATH"], "SLUICE_STATE_DIR": str(tmp_path), **given}
    result = subprocess.run(
        [sys.executable, "-c", READ_SETTINGS],
        cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.stdout.strip() == said, result.stderr
