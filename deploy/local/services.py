"""The two databases, embedded or the operator's own."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deploy.local import postgres, valkey
from deploy.local.files import LocalError


class Starter(Protocol):
    def __call__(self, state_dir: Path, *, may_move: bool = True) -> str: ...


def _no_more(state_dir: Path) -> dict[str, str]:
    return {}


@dataclass(frozen=True)
class Service:
    """One embedded server; ``variable`` names the setting that replaces it.

    ``addresses`` are the settings of a started server's other addresses;
    ``also_variables`` may be set beside ``variable`` by an operator.
    """

    name: str
    variable: str
    start: Starter
    stop: Callable[[Path], None]
    pid: Callable[[Path], int | None]
    addresses: Callable[[Path], dict[str, str]] = _no_more
    also_variables: tuple[str, ...] = ()

    @property
    def is_embedded(self) -> bool:
        return not os.environ.get(self.variable)

    def given(self) -> dict[str, str]:
        """What the environment says of the operator's own server. ``LocalError`` on a half."""
        names = (self.variable, *self.also_variables)
        values = {name: os.environ[name] for name in names if os.environ.get(name)}
        if values and self.variable not in values:
            raise LocalError(f"{', '.join(values)} is set, and {self.variable} is not.")
        return values


POSTGRES = Service(
    "postgres",
    "DATABASE_URL",
    postgres.start,
    postgres.stop,
    postgres.pid,
    postgres.addresses,
    ("DATABASE_WEB_URL", "DATABASE_STAFF_URL"),
)
VALKEY = Service(
    "valkey",
    "REDIS_URL",
    valkey.start,
    valkey.stop,
    valkey.pid,
    valkey.addresses,
    ("REDIS_SOCKET",),
)
ALL = (POSTGRES, VALKEY)


def embedded() -> list[Service]:
    """The services that this environment leaves to us."""
    return [service for service in ALL if service.is_embedded]


def stop_all(state_dir: Path) -> None:
    """Stop whatever embedded server of ``state_dir`` runs, Valkey first."""
    for service in reversed(ALL):
        service.stop(state_dir)
