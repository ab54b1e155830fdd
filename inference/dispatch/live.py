"""The dispatcher of this process, for pages that show what it does now."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inference.dispatch.placement import Decision
from inference.dispatch.publisher import BatchRecord
from inference.routing import ReplicaView

if TYPE_CHECKING:
    from inference.dispatch.dispatcher import Dispatcher

_running: weakref.WeakSet[Dispatcher] = weakref.WeakSet()


@dataclass(frozen=True)
class LiveView:
    """One gateway as it is at this moment; newest first."""

    gateway: str
    in_flight: int
    replicas: list[ReplicaView]
    batches: list[BatchRecord]
    decisions: list[Decision]


def enlist(dispatcher: Dispatcher) -> None:
    _running.add(dispatcher)


def delist(dispatcher: Dispatcher) -> None:
    _running.discard(dispatcher)


def get_live_views() -> list[LiveView]:
    """Of every dispatcher of this process, which is one in a web process and none elsewhere."""
    return [
        LiveView(
            gateway=each.gateway,
            in_flight=each.in_flight,
            replicas=sorted(each.fleet.replicas.values(), key=lambda view: view.name)[:200],
            batches=each.recent_batches[::-1],
            decisions=each.recent_decisions[::-1][:50],
        )
        for each in list(_running)
    ]
