"""Staff's hands on the fleet: every replica as it is now, and orders to one of them.

An order goes to the replica itself, by its control stream; nothing else has to remember
it. It is for one life of the replica: a restarted one serves again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from time import time

import redis
from django.conf import settings
from django.db import transaction
from redis.exceptions import RedisError

from inference import wire
from inference.errors import FleetUnreachable
from inference.fleet import latest_heartbeats
from inference.models import Deployment, Replica
from tenants import audit
from tenants.errors import AlreadyDone, NotFound
from tenants.models import User

# Twenty heartbeats: who is silent for longer is not there to be asked.
LIVE_S = 10.0
ORDERS_KEPT = 1_000
ORDERS_EXPIRY_MS = 3_600_000
# Of each order the states in which it makes sense, and the audit trail's word.
ORDERS = {
    "drain": (frozenset({"ready"}), "staff.replica.drained"),
    "serve": (frozenset({"draining"}), "staff.replica.restored"),
    "restart": (frozenset({"ready", "draining"}), "staff.replica.restarted"),
}


def orders_in(state: str) -> list[str]:
    return [verb for verb, (states, _) in ORDERS.items() if state in states]


@dataclass(frozen=True)
class LiveReplica:
    """One replica by its newest heartbeat, ``age_s`` seconds old."""

    beat: wire.Heartbeat
    age_s: float
    row: int | None = None  # the mirrored row's key; the control worker makes it within seconds

    @property
    def name(self) -> str:
        return self.beat.replica

    @property
    def started_at(self) -> datetime:
        return datetime.fromtimestamp(self.beat.started_at, UTC)

    @property
    def orders(self) -> list[str]:
        """What may be asked of it in its state."""
        return orders_in(self.beat.state)

    @property
    def tone(self) -> str:
        if self.beat.state == "ready":
            return "good" if self.beat.is_proven else "bad"
        return {"draining": "warn", "starting": "info"}.get(self.beat.state, "bad")


@dataclass(frozen=True)
class DeploymentState:
    """A deployment of the registry with the replicas of it that live."""

    deployment: Deployment
    replicas: list[LiveReplica]

    @property
    def ready(self) -> int:
        return sum(each.beat.state == "ready" for each in self.replicas)

    @property
    def tone(self) -> str:
        if not self.deployment.is_enabled:
            return ""
        if not self.ready:
            return "bad"
        return "good" if self.ready >= self.deployment.min_replicas else "warn"


@dataclass(frozen=True)
class FleetTotals:
    """Sums over the replicas that live; the wait is the longest of theirs."""

    replicas: int
    ready: int
    draining: int
    running: int
    waiting: int
    places: int
    tokens_per_s: float
    queue_wait_ms: float


def totals_of(replicas: list[LiveReplica]) -> FleetTotals:
    beats = [each.beat for each in replicas]
    return FleetTotals(
        replicas=len(beats),
        ready=sum(beat.state == "ready" for beat in beats),
        draining=sum(beat.state == "draining" for beat in beats),
        running=sum(beat.running for beat in beats),
        waiting=sum(beat.waiting for beat in beats),
        places=sum(beat.capacity for beat in beats if beat.state == "ready"),
        tokens_per_s=sum(beat.tokens_per_second for beat in beats),
        queue_wait_ms=max((beat.queue_wait_ms for beat in beats), default=0.0),
    )


def get_live_replicas() -> list[LiveReplica]:
    """Of every deployment, by name; those that said goodbye are left out.

    Raises FleetUnreachable.
    """
    try:
        with _client() as client:
            beats = latest_heartbeats(client, LIVE_S)
    except (RedisError, OSError) as error:
        raise FleetUnreachable from error
    now = time()
    rows = dict(Replica.objects.filter(name__in=beats).values_list("name", "pk"))
    return [
        LiveReplica(beat, max(0.0, now - at), rows.get(beat.replica))
        for _, (at, beat) in sorted(beats.items())
        if beat.state != "gone"
    ]


def get_deployment_states(replicas: Iterable[LiveReplica]) -> list[DeploymentState]:
    """Every deployment with its replicas, the enabled ones first."""
    of: dict[int, list[LiveReplica]] = {}
    for replica in replicas:
        of.setdefault(replica.beat.deployment, []).append(replica)
    deployments = Deployment.objects.select_related("version__model").order_by(
        "-is_enabled", "name"
    )
    return [DeploymentState(each, of.get(each.pk, [])) for each in deployments]


def get_live_replica(name: str) -> LiveReplica:
    """Raises NotFound for one that does not live, and FleetUnreachable."""
    for replica in get_live_replicas():
        if replica.name == name:
            return replica
    raise NotFound("No replica of this name lives.")


@transaction.atomic
def order_replica(
    name: str, verb: str, *, acting_user: User | None, address: str | None = None
) -> LiveReplica:
    """Ask a replica to drain, to serve again, or to restart. Returns it as it was.

    Draining it finishes what it has and gets nothing new. Raises NotFound, AlreadyDone where
    its state makes the order pointless, and FleetUnreachable; then nothing has happened.
    """
    replica = get_live_replica(name)
    if verb not in replica.orders:
        raise AlreadyDone(f"{name} is {replica.beat.state}.")
    audit.record_event(
        acting_user=acting_user,
        action=ORDERS[verb][1],
        object_type="replica",
        object_id=name[:60],
        before={"state": replica.beat.state},
        after={"incarnation": replica.beat.incarnation},
        address=address,
    )
    order = wire.encode(wire.Order(verb, replica.beat.incarnation))
    stream = wire.control_of(name)
    try:
        with _client() as client:
            client.xadd(stream, {b"o": order}, maxlen=ORDERS_KEPT, approximate=True)
            client.pexpire(stream, ORDERS_EXPIRY_MS)
    except (RedisError, OSError) as error:
        raise FleetUnreachable from error
    return replica


def _client() -> redis.Redis:
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=settings.REDIS_TIMEOUT_S,
        socket_connect_timeout=settings.REDIS_TIMEOUT_S,
    )
