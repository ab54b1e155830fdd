"""The two databases, embedded or the operator's own."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deploy.local import postgres, valkey


class Starter(Protocol):
    def __call__(self, state_dir: Path, *, may_move: bool = True) -> str: ...


@dataclass(frozen=True)
class Service:
    """One embedded server; ``variable`` names the setting that replaces it."""

    name: str
    variable: str
    start: Starter
    stop: Callable[[Path], None]
    pid: Callable[[Path], int | None]

    @property
    def is_embedded(self) -> bool:
        return not os.environ.get(self.variable)


POSTGRES = Service("postgres", "DATABASE_URL", postgres.start, postgres.stop, postgres.pid)
VALKEY = Service("valkey", "REDIS_URL", valkey.start, valkey.stop, valkey.pid)
ALL = (POSTGRES, VALKEY)


def embedded() -> list[Service]:
    """The services that this environment leaves to us."""
    return [service for service in ALL if service.is_embedded]


def stop_all(state_dir: Path) -> None:
    """Stop whatever embedded server of ``state_dir`` runs, Valkey first."""
    for service in reversed(ALL):
        service.stop(state_dir)
