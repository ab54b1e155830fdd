"""Small files of the state directory: private, atomic, and remembered choices."""

from __future__ import annotations

import json
import os
import secrets
import socket
import string
import tempfile
from pathlib import Path
from typing import Any

from deploy.local import processes

LOOPBACK = "127.0.0.1"
_ALPHABET = string.ascii_letters + string.digits


class LocalError(Exception):
    """The platform cannot come up here; the message tells an operator why."""


def new_secret(length: int = 64) -> str:
    """``length`` random characters that need no quoting in shells, URLs or config files."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def write_private(path: Path, text: str) -> None:
    """Replace ``path`` at once by a file that only its owner can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # mkstemp makes the file with mode 600, so the text is never readable by others.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def read_json(path: Path) -> dict[str, Any]:
    """The object in ``path``; empty when there is none or it is damaged."""
    try:
        value = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_json(path: Path, value: dict[str, Any]) -> None:
    write_private(path, json.dumps(value, indent=1) + "\n")


def is_port_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        # As servers do: a port in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port nobody listens on, below the range from which clients get theirs."""
    for _ in range(200):
        port = 20_000 + secrets.randbelow(12_000)
        if is_port_free(port):
            return port
    raise LocalError("No free port was found on 127.0.0.1.")


def keep_port(port: int | None, may_move: bool) -> int:
    """``port`` again if it can be had, else another; ``LocalError`` if that is not allowed."""
    if port is None:
        return free_port()
    # A server killed a moment ago still holds its port for an instant.
    if processes.wait_until(lambda: is_port_free(port), timeout_s=3):
        return port
    if not may_move:
        raise LocalError(f"Port {port} is in use by another program.")
    return free_port()


def remembered_port(state_dir: Path, name: str) -> int:
    """The port chosen for ``name`` before, if it is still free, else a new one."""
    path = state_dir / "ports.json"
    ports = read_json(path)
    port = ports.get(name)
    if not isinstance(port, int) or not is_port_free(port):
        port = free_port()
        write_json(path, {**ports, name: port})
    return port


def state_dir_of(base_dir: Path) -> Path:
    """Where this clone keeps its state: ``SLUICE_STATE_DIR``, or ``.sluice`` in the clone."""
    return Path(os.environ.get("SLUICE_STATE_DIR") or base_dir / ".sluice").absolute()


def make_state_dir(state_dir: Path) -> None:
    """Create the state directory if need be; an existing one keeps its mode."""
    (state_dir / "logs").mkdir(parents=True, exist_ok=True)
