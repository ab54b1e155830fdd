"""The replicas that live, from their heartbeats: for gateways in memory, for people in rows."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
import redis
from django.conf import settings
from django.utils import timezone
from redis.exceptions import RedisError

from inference import wire
from inference.models import Deployment, Replica
from inference.routing import ReplicaView
from inference.streams import read_after, read_since, written_at
from tenants.redis_link import RedisLink

log = logging.getLogger(__name__)

# A replica silent for this long is forgotten by gateways and shown as gone.
FORGET_S = 30.0
# Rows of replicas that are gone stay this long for people to see, and no longer: names of
# containers are new at every start, and the rows are a mirror, not a record.
KEEP_GONE = timedelta(days=7)
FAILURE_HALF_LIFE_S = 10.0
MOST_BEATS_READ = 500


class Fleet:
    """A gateway's view; ``run`` follows the heartbeats until cancelled."""

    def __init__(self, reader: RedisLink, on_change: Callable[[ReplicaView], None]):
        self._reader = reader
        self._on_change = on_change
        self._by_deployment: dict[int, dict[str, ReplicaView]] = {}
        self.replicas: dict[str, ReplicaView] = {}
        self.is_connected = False
        self.heard_at = time.monotonic()  # all that was said until then is known
        self.region_of: Callable[[int], str] = lambda _deployment: ""

    def of_deployment(self, deployment: int) -> dict[str, ReplicaView]:
        return self._by_deployment.get(deployment, {})

    def accept(self, beat: wire.Heartbeat) -> None:
        view = self.replicas.get(beat.replica)
        now = time.monotonic()
        if view is None or view.incarnation != beat.incarnation:
            if beat.state == "gone":
                return
            self.forget(beat.replica)
            view = ReplicaView(
                name=beat.replica,
                incarnation=beat.incarnation,
                deployment=beat.deployment,
                version=beat.version,
                region=self.region_of(beat.deployment),
                state=beat.state,
                running=beat.running,
                waiting=beat.waiting,
                capacity=beat.capacity,
                seen_at=now,
            )
            _note_measured(view, beat)
            self.replicas[beat.replica] = view
            self._by_deployment.setdefault(beat.deployment, {})[beat.replica] = view
            self._on_change(view)
            return
        has_changed = view.state != beat.state
        view.state, view.running, view.waiting = beat.state, beat.running, beat.waiting
        view.failures *= 0.5 ** ((now - view.seen_at) / FAILURE_HALF_LIFE_S)
        view.capacity, view.seen_at = beat.capacity, now
        _note_measured(view, beat)
        if has_changed:
            self._on_change(view)

    def forget(self, name: str) -> None:
        view = self.replicas.pop(name, None)
        if view is not None:
            view.state = "gone"
            self._by_deployment[view.deployment].pop(name, None)
            self._on_change(view)

    def forget_silent(self) -> None:
        horizon = time.monotonic() - FORGET_S
        for name in [name for name, view in self.replicas.items() if view.seen_at < horizon]:
            self.forget(name)

    async def run(self) -> None:
        # What was said in the last two seconds is the fleet as it is now.
        position: bytes | str = f"{int((time.time() - 2) * 1000)}-0"
        while True:
            try:
                messages = await read_after(
                    self._reader, wire.HEARTBEATS, position, block_ms=250, count=MOST_BEATS_READ
                )
            except (RedisError, OSError, TimeoutError) as error:
                # No news is not bad news: silence counts only while we can hear.
                self.is_connected = False
                log.warning("fleet.lost", extra={"error": repr(error)})
                await asyncio.sleep(0.25)
                continue
            if not self.is_connected:
                self.is_connected = True
                for view in self.replicas.values():
                    view.seen_at = time.monotonic()
            for _, fields in messages:
                if (beat := _beat_of(fields)) is not None:
                    self.accept(beat)
            if messages:
                position = messages[-1][0]
            if len(messages) < MOST_BEATS_READ:
                self.heard_at = time.monotonic()


def _note_measured(view: ReplicaView, beat: wire.Heartbeat) -> None:
    view.prefill_tokens_per_s, view.decode_ms = beat.prefill_tokens_per_s, beat.decode_ms
    view.kv_tokens, view.is_proven = beat.kv_tokens, beat.is_proven


def _beat_of(fields: dict[bytes, bytes]) -> wire.Heartbeat | None:
    """A message's heartbeat; None of one that makes no sense: its sender is as good as silent."""
    try:
        return wire.decode_heartbeat(fields.get(b"h", b""))
    except msgspec.MsgspecError as error:
        log.error("fleet.unreadable_heartbeat", extra={"error": repr(error)})
        return None


def latest_heartbeats(
    client: redis.Redis, seconds: float
) -> dict[str, tuple[float, wire.Heartbeat]]:
    """Each replica's newest heartbeat of the last ``seconds``, with its Unix time."""
    oldest_ms = int((time.time() - seconds) * 1000)
    newest: dict[str, tuple[float, wire.Heartbeat]] = {}
    for message_id, fields in read_since(client, wire.HEARTBEATS, oldest_ms):
        if (beat := _beat_of(fields)) is not None:
            newest[beat.replica] = (written_at(message_id), beat)
    return newest


def mirror_replicas() -> int:
    """Write the fleet's state to ``Replica`` rows for the admin. Returns how many live.

    Rows of replicas that have been gone for longer than ``KEEP_GONE`` are deleted.
    """
    client = redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=settings.REDIS_TIMEOUT_S,
        socket_connect_timeout=settings.REDIS_TIMEOUT_S,
    )
    with client:
        beats = latest_heartbeats(client, seconds=10.0)
    known = set(Deployment.objects.values_list("pk", flat=True))
    for name, (at, beat) in beats.items():
        if beat.deployment not in known:
            continue
        Replica.objects.update_or_create(
            name=name,
            defaults={
                "deployment_id": beat.deployment,
                "state": beat.state,
                "engine": beat.engine,
                "node": beat.node,
                "incarnation": beat.incarnation,
                "running": beat.running,
                "waiting": beat.waiting,
                "kv_cache_usage": beat.kv_cache_usage,
                "tokens_per_second": beat.tokens_per_second,
                "started_at": datetime.fromtimestamp(beat.started_at, UTC),
                "last_heartbeat_at": datetime.fromtimestamp(at, UTC),
            },
        )
    Replica.objects.exclude(name__in=beats).exclude(state=Replica.State.GONE).update(
        state=Replica.State.GONE, running=0, waiting=0, tokens_per_second=0
    )
    Replica.objects.filter(
        state=Replica.State.GONE, last_heartbeat_at__lt=timezone.now() - KEEP_GONE
    ).delete()
    return len(beats)
