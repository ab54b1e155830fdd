"""The way around Redis: lines straight to replicas, for as long as Redis is away.

Nothing of it is there otherwise. When this gateway has heard nothing of Redis for
``AWAY_AFTER_S`` it opens a line to every replica whose heartbeat named an address; work
and aborts go that way, deltas and heartbeats come. When Redis is back the lines are closed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from django.conf import settings

from inference import bypass, metrics, wire
from inference.dispatch.senders import Done, Sender
from inference.fleet import Fleet
from inference.wire import Delta, Submission

log = logging.getLogger(__name__)

TICK_S = 0.25
# Heartbeats of any one replica come every half second.
AWAY_AFTER_S = 1.5
CONNECT_TIMEOUT_S = 2.0
RETRY_S = 1.0
# Redis must have been back for this long.
LINGER_S = 1.0


class _Line:
    """One replica's; ``task`` reads it until it ends."""

    def __init__(self, replica: str, address: str):
        self.replica, self.address = replica, address
        self.writer: asyncio.StreamWriter | None = None
        self.heard_at = time.monotonic()
        self.is_leaving = False
        self.task: asyncio.Task[None] | None = None

    def send(self, kind: str, payload: bytes = b"") -> bool:
        return self.writer is not None and bypass.send(self.writer, bypass.frame(kind, payload))


class Bypass:
    """``run`` as a task; ``deliver`` gets deltas as the mailbox's reader does. ``held_by`` names
    what a replica was given, and ``on_unknown`` hears what of it never came there: messages
    that Redis took with it."""

    def __init__(
        self,
        gateway: str,
        fleet: Fleet,
        deliver: Callable[[Delta], None],
        held_by: Callable[[str], list[str]],
        on_unknown: Callable[[list[str]], None],
    ):
        self._gateway = gateway
        self._fleet = fleet
        self._deliver = deliver
        self._held_by, self._on_unknown = held_by, on_unknown
        self._lines: dict[str, _Line] = {}
        self._addresses: dict[str, str] = {}  # of this outage; a replica may be given up in it
        self._tried_at: dict[str, float] = {}
        self._back_at = time.monotonic()

    @property
    def is_open(self) -> bool:
        """Whether any replica can be reached this way now."""
        return any(line.writer is not None for line in self._lines.values())

    def send_work(self, replica: str, batch: list[Submission]) -> bool:
        return self._send(replica, "work", batch)

    def send_abort(self, replica: str, engine_ids: list[str]) -> bool:
        return self._send(replica, "abort", wire.Abort(engine_ids))

    def _send(self, replica: str, kind: str, value: object) -> bool:
        """Whether there is a line, and it took this. Free as long as there is none."""
        line = self._lines.get(replica)
        if line is None or line.writer is None or line.is_leaving:
            return False
        return line.send(kind, wire.encode(value))

    async def run(self) -> None:
        try:
            while True:
                await asyncio.sleep(TICK_S)
                self._tick(time.monotonic())
        finally:
            for line in self._lines.values():
                line.is_leaving = True
            tasks = [line.task for line in self._lines.values() if line.task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _tick(self, now: float) -> None:
        if self._is_away(now):
            self._back_at = now
            views = self._fleet.replicas.values()
            self._addresses |= {view.name: view.bypass for view in views if view.bypass}
            for replica, address in self._addresses.items():
                self._reach(replica, address, now)
            self._give_up_silent(now)
            return
        self._addresses.clear()
        if self._lines and now - self._back_at > LINGER_S:
            for line in self._lines.values():
                if not line.is_leaving:
                    line.is_leaving = True
                    line.send("bye")

    def _is_away(self, now: float) -> bool:
        if not self._fleet.replicas and not self._addresses:
            return False  # nobody was heard of, so nobody's address is known
        return not self._fleet.is_connected or now - self._fleet.heard_at > AWAY_AFTER_S

    def _reach(self, replica: str, address: str, now: float) -> None:
        if replica in self._lines or now - self._tried_at.get(replica, -RETRY_S) < RETRY_S:
            return
        self._tried_at[replica] = now
        line = self._lines[replica] = _Line(replica, address)
        line.task = asyncio.create_task(self._follow(line))

    def _give_up_silent(self, now: float) -> None:
        """Redis tells nothing of a replica's silence now; its line does."""
        horizon = now - settings.REPLICA_SILENCE_S
        for line in self._lines.values():
            if line.writer is not None and line.heard_at < horizon:
                log.warning("bypass.silent", extra={"replica": line.replica})
                line.writer.transport.abort()

    async def _follow(self, line: _Line) -> None:
        try:
            await self._read(line)
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            log.warning("bypass.lost", extra={"replica": line.replica, "error": repr(error)})
        finally:
            was_open = line.writer is not None
            if line.writer is not None:
                line.writer.close()
            del self._lines[line.replica]
        if was_open and not line.is_leaving:
            # As if it had fallen silent. If it lives, its next heartbeat brings it back.
            self._fleet.forget(line.replica)

    async def _read(self, line: _Line) -> None:
        where, _, token = line.address.partition("/")
        host, _, port = where.rpartition(":")
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, int(port))
        hello = wire.encode(bypass.Hello(token, self._gateway))
        writer.write(bypass.frame("hello", hello))
        line.writer, line.heard_at = writer, time.monotonic()
        metrics.BYPASSED.inc()
        log.warning("bypass.opened", extra={"replica": line.replica})
        line.send("held", wire.encode(wire.Abort(self._held_by(line.replica))))
        while True:
            kind, payload = await bypass.read_frame(reader)
            line.heard_at = time.monotonic()
            if kind == "deltas":
                for delta in wire.decode_deltas(payload):
                    self._deliver(delta)
            elif kind == "beat":
                self._fleet.accept(wire.decode_heartbeat(payload))
            elif kind == "unknown":
                self._on_unknown(wire.decode_abort(payload).engine_ids)
            elif kind == "bye":
                return


class BypassSender:
    """Another sender, and the lines in its place where there are any."""

    def __init__(self, sender: Sender, lines: Bypass):
        self._sender, self._lines = sender, lines

    def send(self, replica: str, batch: list[Submission], done: Done) -> None:
        if self._lines.send_work(replica, batch):
            # Not at once: who sends is not done with what it does.
            asyncio.get_running_loop().call_soon(done, True)
        else:
            self._sender.send(replica, batch, done)

    async def close(self) -> None:
        await self._sender.close()
