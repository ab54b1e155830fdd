"""Log files of bounded size, prefixed lines for terminals, and `make logs`."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO

MAX_BYTES = 10 * 1024 * 1024
KEPT = 3
# A line without end must not fill the supervisor's memory.
MAX_LINE_BYTES = 64 * 1024
_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


def log_path(state_dir: Path, name: str) -> Path:
    return state_dir / "logs" / f"{name}.log"


def stamp() -> str:
    """Now, as the other log lines write it: UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class RotatingFile:
    """Appends lines; at ``max_bytes`` the file becomes ``.1``, that ``.2``, up to ``KEPT``."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES):
        self._path = path
        self._max_bytes = max_bytes
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        self._size = self._file.tell()

    def write_line(self, line: bytes) -> None:
        if self._size and self._size + len(line) >= self._max_bytes:
            self._file.close()
            shift(self._path)
            self._file = self._path.open("ab")
            self._size = 0
        self._file.write(line + b"\n")
        self._file.flush()
        self._size += len(line) + 1

    def close(self) -> None:
        self._file.close()


def shift(path: Path) -> None:
    """Move ``path`` to ``.1`` and so on; the oldest goes."""
    for number in range(KEPT, 0, -1):
        older = path.with_name(f"{path.name}.{number}")
        newer = path if number == 1 else path.with_name(f"{path.name}.{number - 1}")
        if newer.exists():
            newer.replace(older)


def trim_in_place(path: Path, max_bytes: int = MAX_BYTES) -> None:
    """Bound a file that another process appends to: copy it to ``.1``, then empty it."""
    if path.is_file() and path.stat().st_size > max_bytes:
        shutil.copyfile(path, path.with_name(path.name + ".1"))
        with open(path, "rb+") as file:
            file.truncate(0)


class Lines:
    """Cuts a byte stream into lines, long ones into pieces; blank ones are dropped."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        *whole, self._rest = (self._rest + data).split(b"\n")
        while len(self._rest) > MAX_LINE_BYTES:
            whole.append(self._rest[:MAX_LINE_BYTES])
            self._rest = self._rest[MAX_LINE_BYTES:]
        return [line.rstrip(b"\r") for line in whole if line.strip()]

    def finish(self) -> list[bytes]:
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


class Console:
    """Lines of many processes on one terminal, each with its process's name in front."""

    def __init__(self, names: Iterable[str], stream: IO[str] | None = None):
        self._stream = stream or sys.stdout
        self._is_tty = self._stream.isatty()
        self._colours = {name: _COLOURS[at % len(_COLOURS)] for at, name in enumerate(names)}
        self._width = max(map(len, self._colours), default=0)

    def show(self, name: str, line: str) -> None:
        prefix = f"{name:<{self._width}} |"
        if self._is_tty:
            prefix = f"\x1b[{self._colours.get(name, 37)}m{prefix}\x1b[0m"
        try:
            print(prefix, line, file=self._stream, flush=True)
        except (BrokenPipeError, ValueError):
            # Nobody reads the terminal any more; the log files go on.
            return


def tail(path: Path, count: int) -> list[str]:
    """The last ``count`` lines, read from the end of the file."""
    if not path.is_file():
        return []
    with open(path, "rb") as file:
        start = max(0, file.seek(0, 2) - count * 400)
        file.seek(start)
        return file.read().decode(errors="replace").splitlines()[-count:]


def show_logs(state_dir: Path, names: list[str], count: int, follow: bool) -> int:
    """Print the end of each log and, with ``follow``, what comes until Ctrl-C."""
    folder = state_dir / "logs"
    known = sorted(path.stem for path in folder.glob("*.log"))
    unknown = [name for name in names if name not in known]
    if unknown or not known:
        print(f"No log of {', '.join(unknown) or 'any process'} in {folder}.", file=sys.stderr)
        return 1
    chosen = names or known
    console = Console(chosen)
    for name in chosen:
        for line in tail(log_path(state_dir, name), count):
            console.show(name, line)
    if follow:
        _follow(state_dir, chosen, console)
    return 0


def _follow(state_dir: Path, names: list[str], console: Console) -> None:
    paths = {name: log_path(state_dir, name) for name in names}
    at = {name: path.stat().st_size for name, path in paths.items()}
    lines = {name: Lines() for name in names}
    try:
        while True:
            for name, path in paths.items():
                size = path.stat().st_size if path.is_file() else 0
                if size < at[name]:  # rotated: the rest of the old file is given up
                    at[name] = 0
                if size > at[name]:
                    with open(path, "rb") as file:
                        file.seek(at[name])
                        data = file.read(size - at[name])
                    at[name] = size
                    for line in lines[name].feed(data):
                        console.show(name, line.decode(errors="replace"))
            time.sleep(0.3)
    except KeyboardInterrupt:
        return
