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
from inference.streams import Message, read_after_each, read_since, written_at
from tenants.redis_link import RedisLink

log = logging.getLogger(__name__)

# A replica silent for this long is forgotten by gateways and shown as gone.
FORGET_S = 30.0
# Rows of replicas that are gone stay this long for people to see, and no longer: names of
# containers are new at every start, and the rows are a mirror, not a record.
KEEP_GONE = timedelta(days=7)
FAILURE_HALF_LIFE_S = 10.0
MOST_BEATS_READ = 500
# A fifth of a heartbeat's interval.
GULP_S = 0.1
FEW_REPLICAS = 8
# Fingerprints of requests that no gateway may run for this long (``dispatch.quarantine``).
QUARANTINE_STREAM = "fleet.quarantine"
QUARANTINE_S = 300.0
# What a gateway hears of in its first moments lived before it; what comes later is new.
SETTLED_S = 3.0
FASTEST_FADES = 1.001


class Fleet:
    """A gateway's view; ``run`` follows the heartbeats until cancelled."""

    def __init__(
        self,
        reader: RedisLink,
        on_change: Callable[[ReplicaView, str], None],
        on_quarantine: Callable[[str], None] = lambda _fingerprint: None,
    ):
        """``on_change(view, before)``: before is the state that its last heartbeat told, "" for
        one that is new or was given up. ``on_quarantine`` hears the fingerprints that other
        gateways refuse from now on."""
        self._reader = reader
        self._on_change = on_change
        self._on_quarantine = on_quarantine
        self._by_deployment: dict[int, dict[str, ReplicaView]] = {}
        self._listed: dict[int, list[ReplicaView]] = {}
        self._fastest_ms: dict[int, float] = {}
        self.replicas: dict[str, ReplicaView] = {}
        self.is_connected = False
        self.heard_at = time.monotonic()  # all that was said until then is known
        self._began_at = time.monotonic()
        self.region_of: Callable[[int], str] = lambda _deployment: ""

    def of_deployment(self, deployment: int) -> dict[str, ReplicaView]:
        return self._by_deployment.get(deployment, {})

    def listed(self, deployment: int) -> list[ReplicaView]:
        """The same, to be drawn from by number."""
        found = self._listed.get(deployment)
        if found is None:
            found = self._listed[deployment] = list(self.of_deployment(deployment).values())
        return found

    def accept(self, beat: wire.Heartbeat) -> None:
        view = self.replicas.get(beat.replica)
        now = time.monotonic()
        if view is None or view.incarnation != beat.incarnation:
            if beat.state != "gone":
                self._welcome(beat, now)
            return
        before = view.state
        view.state, view.running, view.waiting = beat.state, beat.running, beat.waiting
        view.failures *= 0.5 ** ((now - view.seen_at) / FAILURE_HALF_LIFE_S)
        view.capacity, view.seen_at = beat.capacity, now
        self._note_measured(view, beat)
        if before != view.state:
            if view.state == "ready":
                view.ready_at = now
            self._on_change(view, before)

    def _welcome(self, beat: wire.Heartbeat, now: float) -> None:
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
        if now - self._began_at > SETTLED_S:  # before that it is only new to this gateway
            view.ready_at = now
        self._note_measured(view, beat)
        self.replicas[beat.replica] = view
        self._by_deployment.setdefault(beat.deployment, {})[beat.replica] = view
        self._listed.pop(beat.deployment, None)
        self._on_change(view, "")

    def _note_measured(self, view: ReplicaView, beat: wire.Heartbeat) -> None:
        view.prefill_tokens_per_s, view.decode_ms = beat.prefill_tokens_per_s, beat.decode_ms
        view.kv_tokens, view.is_proven = beat.kv_tokens, beat.is_proven
        view.bypass = beat.bypass
        if view.running or view.waiting:
            view.empty_since = None
        elif view.empty_since is None:
            view.empty_since = view.seen_at
        if beat.decode_ms > 0:
            # The record fades, so that one lucky moment is not held against all for ever.
            known = self._fastest_ms.get(view.deployment, beat.decode_ms)
            fastest = min(known * FASTEST_FADES, beat.decode_ms)
            self._fastest_ms[view.deployment] = fastest
            view.speed = fastest / beat.decode_ms

    def forget(self, name: str) -> None:
        view = self.replicas.pop(name, None)
        if view is not None:
            view.state = "gone"
            self._by_deployment[view.deployment].pop(name, None)
            self._listed.pop(view.deployment, None)
            self._on_change(view, "")

    def forget_silent(self) -> None:
        horizon = time.monotonic() - FORGET_S
        for name in [name for name, view in self.replicas.items() if view.seen_at < horizon]:
            self.forget(name)

    async def run(self) -> None:
        # What was said in the last two seconds is the fleet as it is now.
        now_ms = int(time.time() * 1000)
        positions: dict[str, bytes | str] = {
            wire.HEARTBEATS: f"{now_ms - 2_000}-0",
            QUARANTINE_STREAM: f"{now_ms - int(QUARANTINE_S * 1000)}-0",
        }
        while True:
            asked_at = time.monotonic()
            try:
                news = await read_after_each(
                    self._reader, positions, block_ms=250, count=MOST_BEATS_READ
                )
            except (RedisError, OSError, TimeoutError) as error:
                # No news is not bad news: silence counts only while we can hear.
                self.is_connected = False
                log.warning("fleet.lost", extra={"error": repr(error)})
                await asyncio.sleep(0.25)
                continue
            is_all = self._hear(news, asked_at)
            if is_all and len(self.replicas) > FEW_REPLICAS:
                # Of many, some speak at every moment: waking for each costs more than its beat.
                await asyncio.sleep(GULP_S)
            positions |= {stream: messages[-1][0] for stream, messages in news.items()}

    def _hear(self, news: dict[str, list[Message]], asked_at: float) -> bool:
        """Whether that was all there is to hear."""
        if not self.is_connected:
            self.is_connected = True
            for view in self.replicas.values():
                view.seen_at = time.monotonic()
        for _, fields in news.get(QUARANTINE_STREAM, []):
            self._on_quarantine(fields[b"fingerprint"].decode())
        beats = news.get(wire.HEARTBEATS, [])
        for _, fields in beats:
            if (beat := _beat_of(fields)) is not None:
                self.accept(beat)
        is_all = len(beats) < MOST_BEATS_READ
        if is_all:
            # Not now: a loop that stood still reads late what is an answer of long ago.
            self.heard_at = asked_at
        return is_all


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
