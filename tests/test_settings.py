"""Settings: typed, loud when wrong, documented, and never insecure in production."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from config import settings as settings_module
from config.env import Environment, SettingError, read_env_file
from tests.harness.services import CHECKOUT

ABOUT = {"owner": "tests", "doc": "A setting of these tests."}


def read(kind: Callable[[Environment], object], value: str, name: str = "X") -> object:
    return kind(Environment({name: value}))


# --- Typed reading -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (lambda env: env.text("X", "d", **ABOUT), "a b", "a b"),
        (lambda env: env.integer("X", 3, **ABOUT), "42", 42),
        (lambda env: env.integer("X", 3, minimum=1, **ABOUT), "1", 1),
        (lambda env: env.number("X", 3.0, **ABOUT), "0.5", 0.5),
        (lambda env: env.flag("X", False, **ABOUT), "YES", True),
        (lambda env: env.flag("X", True, **ABOUT), "off", False),
        (lambda env: env.names("X", ["d"], **ABOUT), " a, b ,,c", ["a", "b", "c"]),
        (lambda env: env.choice("X", ("a", "b"), "a", **ABOUT), "b", "b"),
    ],
)
def test_a_value_is_read_as_its_type(
    kind: Callable[[Environment], object], value: str, expected: object
) -> None:
    assert read(kind, value) == expected


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (lambda env: env.integer("X", 3, **ABOUT), "many", "X='many' is not a integer"),
        (lambda env: env.integer("X", 3, **ABOUT), "1.5", "X='1.5' is not a integer"),
        (lambda env: env.integer("X", 3, minimum=1, **ABOUT), "0", "must be at least 1"),
        (lambda env: env.number("X", 3.0, **ABOUT), "soon", "X='soon' is not a number"),
        (lambda env: env.number("X", 3.0, **ABOUT), "nan", "must be finite"),
        (lambda env: env.number("X", 3.0, **ABOUT), "inf", "must be finite"),
        (lambda env: env.number("X", 3.0, **ABOUT), "-1", "must be at least 0"),
        (lambda env: env.flag("X", False, **ABOUT), "maybe", "expected true or false"),
        (lambda env: env.choice("X", ("a", "b"), "a", **ABOUT), "c", "must be one of a, b"),
    ],
)
def test_a_malformed_value_is_refused_by_name(
    kind: Callable[[Environment], object], value: str, message: str
) -> None:
    with pytest.raises(SettingError, match="X=") as refusal:
        read(kind, value)

    assert message in str(refusal.value)


def test_an_unset_or_empty_value_is_the_default() -> None:
    assert Environment({}).integer("X", 3, **ABOUT) == 3
    assert Environment({"X": ""}).integer("X", 3, **ABOUT) == 3


def test_a_name_declared_twice_is_refused() -> None:
    env = Environment({})
    env.text("X", **ABOUT)

    with pytest.raises(SettingError, match="X is declared twice"):
        env.integer("X", 1, **ABOUT)


def test_the_environment_wins_over_a_file_and_a_file_over_the_fallback(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("from the file\n")
    fallback = {"X": "from runtime.env"}

    def value(**environ: str) -> str:
        return Environment(environ, fallback).text("X", "default", **ABOUT)

    assert value(X="from the environment", X_FILE=str(secret)) == "from the environment"
    assert value(X_FILE=str(secret)) == "from the file"
    assert value() == "from runtime.env"


def test_a_file_that_cannot_be_read_is_refused_without_its_content(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"hunter2\xff")
    for path in (tmp_path / "absent", tmp_path, binary):
        with pytest.raises(SettingError, match=f"X_FILE={path} cannot be read") as refusal:
            Environment({"X_FILE": str(path)}).text("X", **ABOUT, secret=True)
        assert "hunter2" not in str(refusal.value)


def test_an_env_file_is_read_as_a_shell_would(tmp_path: Path) -> None:
    path = tmp_path / "demo.env"
    path.write_text("# a comment\n\nA=1\nexport B='two words'\n  C = \"x=y\"  \nnothing\n")

    assert read_env_file(path) == {"A": "1", "B": "two words", "C": "x=y", "nothing": ""}
    assert read_env_file(tmp_path / "absent") == {}


# --- The database's address --------------------------------------------------------------


def test_a_database_url_is_taken_apart() -> None:
    database = settings_module.database_from_url(
        "postgresql://us%40er:p%2Fw@db.example:6543/na%20me?sslmode=require"
    )

    assert database["USER"] == "us@er" and database["PASSWORD"] == "p/w"
    assert (database["HOST"], database["PORT"], database["NAME"]) == ("db.example", "6543", "na me")
    assert database["OPTIONS"]["sslmode"] == "require"  # type: ignore[index]


def test_a_socket_folder_can_be_the_host() -> None:
    database = settings_module.database_from_url("postgresql:///name?host=/run/db&port=6543")

    assert (database["HOST"], database["PORT"]) == ("/run/db", "6543")


@pytest.mark.parametrize(
    "url", ["mysql://u:hunter2@h/d", "postgresql://u:hunter2/x@h/d", "postgresql://u:hunter2@[h/d"]
)
def test_a_malformed_database_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(SettingError, match="DATABASE_URL") as refusal:
        settings_module.database_from_url(url)

    assert "hunter2" not in str(refusal.value)
    shown = "".join(traceback.format_exception(refusal.value))
    assert "hunter2" not in shown.replace(repr(url), "").replace(url, "")


# --- Production --------------------------------------------------------------------------

SECURE = {
    "SLUICE_ENV": "production",
    "SECRET_KEY": "s" * 40,
    "API_KEY_PEPPER": "p" * 40,
    "CACHE_SALT_SECRET": "c" * 40,
    "FIELD_ENCRYPTION_KEY": "f" * 40,
    "DATABASE_WEB_URL": "postgresql://sluice_web:pw@db/sluice",
    "DATABASE_STAFF_URL": "postgresql://sluice_staff:pw@db/sluice",
    "SLUICE_URL": "https://sluice.example",
    "ALLOWED_HOSTS": "sluice.example",
}


def load_settings(
    tmp_path: Path, environ: dict[str, str], then: str = ""
) -> subprocess.CompletedProcess[str]:
    """Import the settings in a process that has this environment and nothing else."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-c", f"import config.settings; {then}"],
        cwd=CHECKOUT,
        env={**kept, "SLUICE_STATE_DIR": str(tmp_path), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_production_starts_with_secure_settings(tmp_path: Path) -> None:
    loaded = load_settings(tmp_path, SECURE)

    assert loaded.returncode == 0, loaded.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"SECRET_KEY": ""}, "SECRET_KEY has its development default"),
        ({"SECRET_KEY": "short"}, "SECRET_KEY has its development default"),
        ({"API_KEY_PEPPER": ""}, "API_KEY_PEPPER has its development default"),
        ({"CACHE_SALT_SECRET": ""}, "CACHE_SALT_SECRET has its development default"),
        ({"FIELD_ENCRYPTION_KEY": ""}, "FIELD_ENCRYPTION_KEY has its development default"),
        ({"FIELD_ENCRYPTION_KEY": "f" * 40 + ",old"}, "FIELD_ENCRYPTION_KEY has its development"),
        ({"FIELD_ENCRYPTION_KEY": "s" * 40}, "must differ"),
        ({"API_KEY_PEPPER": "s" * 40}, "must differ"),
        ({"CACHE_SALT_SECRET": "p" * 40}, "must differ"),
        ({"DEBUG": "true"}, "DEBUG is on"),
        ({"ENGINE": "simulated"}, "ENGINE is simulated"),
        ({"DATABASE_STAFF_URL": ""}, "DATABASE_STAFF_URL is unset, and so is DATABASE_URL"),
        ({"ALLOWED_HOSTS": "*"}, "ALLOWED_HOSTS allows any host"),
        ({"SECURE_COOKIES": "false"}, "SECURE_COOKIES is off"),
        (
            {"SECURE_COOKIES": "false", "SLUICE_URL": "http://127.0.0.1.evil.example"},
            "SECURE_COOKIES is off",
        ),
    ],
)
def test_production_refuses_an_insecure_default(
    tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    loaded = load_settings(tmp_path, {**SECURE, **changes})

    assert loaded.returncode != 0
    last_line = loaded.stderr.strip().splitlines()[-1]
    assert "Refusing to start in production" in last_line and message in last_line
    assert "s" * 40 not in loaded.stderr and "p" * 40 not in loaded.stderr


OWNER_URL = "postgresql://sluice:pw@db/sluice"
SERVE = "config.settings.refuse_owner_in_web_process()"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({}, ""),
        ({"DATABASE_WEB_URL": ""}, "DATABASE_WEB_URL is unset"),
        ({"DATABASE_URL": OWNER_URL}, "DATABASE_URL is set, which is for manage.py only"),
        (
            {"DATABASE_URL": OWNER_URL, "DATABASE_STAFF_URL": ""},
            "DATABASE_STAFF_URL is unset; DATABASE_URL is set",
        ),
    ],
)
def test_production_serves_with_the_logins_of_the_web_and_of_staff_only(
    tmp_path: Path, changes: dict[str, str], complaint: str
) -> None:
    """What migrates has the owner's, and may: it is ``config.asgi`` that refuses."""
    given = {**SECURE, **changes}
    assert load_settings(tmp_path, given).returncode == 0
    served = load_settings(tmp_path, given, SERVE)
    assert (served.returncode == 0) is (not complaint), served.stderr
    if complaint:
        assert complaint in served.stderr.splitlines()[-1]
        assert "pw@db" not in served.stderr
    assert load_settings(tmp_path, {"DATABASE_URL": OWNER_URL}, SERVE).returncode == 0


def test_a_process_without_the_owners_login_acts_as_staff(tmp_path: Path) -> None:
    """``manage.py`` in the web container: its OWNER scope is the login that there is."""
    show = "d = config.settings.DATABASES['default']; print(d['USER'], *d['LOGINS'])"
    assert load_settings(tmp_path, SECURE, show).stdout.split() == [
        "sluice_staff", "sluice_web", "sluice_staff"
    ]  # fmt: skip


def test_the_web_process_asks_before_it_serves() -> None:
    tree = ast.parse((CHECKOUT / "config" / "asgi.py").read_text())
    calls = [ast.unparse(node.value) for node in tree.body if isinstance(node, ast.Expr)]
    assert "refuse_owner_in_web_process()" in calls


def test_production_names_every_problem_at_once(tmp_path: Path) -> None:
    loaded = load_settings(tmp_path, {"SLUICE_ENV": "production"})

    for name in (
        "SECRET_KEY",
        "API_KEY_PEPPER",
        "CACHE_SALT_SECRET",
        "FIELD_ENCRYPTION_KEY",
        "DATABASE_URL",
    ):
        assert name in loaded.stderr.splitlines()[-1]


def test_development_starts_with_no_setting_at_all(tmp_path: Path) -> None:
    loaded = load_settings(tmp_path, {})

    assert loaded.returncode == 0, loaded.stderr


def test_a_hold_must_outlive_its_request(tmp_path: Path) -> None:
    loaded = load_settings(tmp_path, {"HOLD_EXPIRY_S": "60", "REQUEST_TIMEOUT_S": "60"})

    assert "HOLD_EXPIRY_S must be above REQUEST_TIMEOUT_S" in loaded.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OUTBOUND_PORTS", "443,https"),
        ("OUTBOUND_PORTS", "0"),
        ("OUTBOUND_PRIVATE_NETWORKS", "10.0.0.1/8"),
    ],
)
def test_where_tenants_may_lead_us_is_said_clearly_or_not_at_all(
    tmp_path: Path, name: str, value: str
) -> None:
    assert f"{name}: " in load_settings(tmp_path, {name: value}).stderr.splitlines()[-1]


# --- What the table for operators is made of ------------------------------------------------


def test_every_setting_says_whose_it_is_and_what_it_does() -> None:
    for setting in settings_module.env.declared.values():
        assert setting.owner in {"config", "tenants", "billing", "inference", "api", "portal",
                                 "workers"}, setting.name  # fmt: skip
        assert len(setting.doc) >= 10 and setting.doc.endswith("."), setting.name


def test_whatever_holds_a_credential_is_marked_as_secret() -> None:
    telling = (
        "SECRET",
        "PASSWORD",
        "TOKEN",
        "PEPPER",
        "DATABASE_URL",
        "WEB_URL",
        "STAFF_URL",
        "REDIS_URL",
        "BROKER_URL",
    )
    for name, setting in settings_module.env.declared.items():
        if any(part in name for part in telling):
            assert setting.secret, name
