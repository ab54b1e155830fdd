"""Typed reading of the environment that fails loudly at start.

Every variable is declared once, with its type, default and a sentence for the
operator; ``DECLARED`` is what the table in ``docs/settings.md`` is held against.
A value may also come from a file named by ``<NAME>_FILE`` (secrets mounted by an
orchestrator), and below both from ``<state dir>/runtime.env``, which the
embedded services write, so that ``manage.py`` works beside ``make up``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
# Logins of one database. A process that is given some of them shall have no other: neither
# the owner's beside the web's, nor one of the embedded server beside one of another.
DATABASE_LOGINS = ("DATABASE_URL", "DATABASE_WEB_URL", "DATABASE_STAFF_URL")


class SettingError(Exception):
    """A setting is missing or malformed; the message names it and what is wrong."""


@dataclass(frozen=True)
class Declared:
    name: str
    kind: str
    default: str
    owner: str
    doc: str
    secret: bool


def read_env_file(path: Path) -> dict[str, str]:
    """``KEY=value`` lines of a file; blank lines and ``#`` comments are skipped."""
    if not path.is_file():
        return {}
    values = {}
    for line in path.read_text().splitlines():
        line = line.strip()
        if line and not line.startswith("#"):
            name, _, value = line.removeprefix("export ").partition("=")
            values[name.strip()] = value.strip().strip("'\"")
    return values


def _as_bool(text: str) -> bool:
    lowered = text.lower()
    if lowered in {"1", "true", "yes", "on"}:
        return True
    if lowered in {"0", "false", "no", "off", ""}:
        return False
    raise ValueError("expected true or false")


def _as_list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


class Environment:
    """Reads declared settings from the process environment, then fallbacks."""

    def __init__(self, environ: Mapping[str, str], fallbacks: Mapping[str, str] | None = None):
        self._environ = environ
        self._fallbacks = fallbacks or {}
        self.declared: dict[str, Declared] = {}

    def _raw(self, name: str) -> str | None:
        value = self._environ.get(name)
        if value not in (None, ""):
            return value
        path = self._environ.get(f"{name}_FILE")
        if path:
            try:
                return Path(path).read_text().strip()
            except OSError as error:
                raise SettingError(f"{name}_FILE={path} cannot be read: {error}") from error
            except UnicodeDecodeError:
                # Its own words would show bytes of what may be a secret.
                raise SettingError(f"{name}_FILE={path} cannot be read: it is not UTF-8") from None
        return self._fallbacks.get(name)

    def _read(
        self,
        name: str,
        kind: str,
        parse: Callable[[str], T],
        default: T,
        owner: str,
        doc: str,
        secret: bool = False,
    ) -> T:
        shown = "" if default in (None, "") else str(default)
        if isinstance(default, list):
            shown = ",".join(default)
        if isinstance(default, bool):
            shown = str(default).lower()
        if name in self.declared:
            raise SettingError(f"{name} is declared twice")
        self.declared[name] = Declared(name, kind, shown, owner, doc, secret)
        raw = self._raw(name)
        if raw is None:
            return default
        try:
            return parse(raw)
        except ValueError as error:
            shown_value = "(secret)" if secret else repr(raw)
            raise SettingError(f"{name}={shown_value} is not a {kind}: {error}") from error

    def text(
        self, name: str, default: str = "", *, owner: str, doc: str, secret: bool = False
    ) -> str:
        return self._read(name, "string", str, default, owner, doc, secret)

    def integer(
        self, name: str, default: int, *, owner: str, doc: str, minimum: int | None = None
    ) -> int:
        def parse(raw: Any) -> Any:
            value = int(raw)
            if minimum is not None and value < minimum:
                raise ValueError(f"must be at least {minimum}")
            return value

        return self._read(name, "integer", parse, default, owner, doc)

    def number(
        self, name: str, default: float, *, owner: str, doc: str, minimum: float = 0.0
    ) -> float:
        def parse(raw: Any) -> Any:
            value = float(raw)
            if not math.isfinite(value):
                raise ValueError("must be finite")
            if value < minimum:
                raise ValueError(f"must be at least {minimum:g}")
            return value

        return self._read(name, "number", parse, default, owner, doc)

    def flag(self, name: str, default: bool, *, owner: str, doc: str) -> bool:
        return self._read(name, "boolean", _as_bool, default, owner, doc)

    def names(self, name: str, default: list[str], *, owner: str, doc: str) -> list[str]:
        return self._read(name, "list", _as_list, default, owner, doc)

    def choice(
        self, name: str, options: tuple[str, ...], default: str, *, owner: str, doc: str
    ) -> str:
        def parse(raw: Any) -> Any:
            if raw not in options:
                raise ValueError(f"must be one of {', '.join(options)}")
            return raw

        return self._read(name, "one of " + " / ".join(options), parse, default, owner, doc)


def load(base_dir: Path) -> Environment:
    """The process's environment over ``runtime.env`` of its state directory."""
    state_dir = Path(os.environ.get("SLUICE_STATE_DIR") or base_dir / ".sluice")
    known = read_env_file(state_dir / "runtime.env")
    if any(os.environ.get(name) or os.environ.get(f"{name}_FILE") for name in DATABASE_LOGINS):
        known = {name: value for name, value in known.items() if name not in DATABASE_LOGINS}
    return Environment(os.environ, known)
