"""Runs the lines of all batches: claims them, calls the models, commits what came of it.

One asyncio process with a gateway of its own; several share the work by their leases. Whatever
happens to it, a line's lease runs out and another claims it, and what was not committed was
neither billed nor is it in a result.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter

from django.conf import settings
from django.db import DatabaseError

from api.batches.bodies import read_lines
from api.batches.caller import Later, LineCaller
from api.batches.lane import Lane
from api.batches.reports import LineReports
from api.gateway import Gateway
from api.loops import closing, for_ever, in_thread
from billing.usage import UsageReport
from inference.batches import metrics
from inference.batches.commit import LineResult, commit_results
from inference.batches.lines import (
    HandedBack,
    HeldLine,
    OpenBatch,
    claim_lines,
    count_open_lines,
    get_open_batches,
    hand_back_lines,
    reap_lines,
    renew_lines,
)

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
RENEW_EVERY_S = 2.0
COMMIT_AFTER_S, COMMITTED_AT_ONCE = 0.05, 500
# While PostgreSQL is away: what waits to be committed is bounded, then nothing more is run.
MOST_UNCOMMITTED = 4_000
# Of the lines at the replicas, in all.
MOST_BYTES = 64 << 20
READ_AT_ONCE_BYTES = 1 << 20
GRACE_S = 10.0


class Executor:
    def __init__(self, gateway: Gateway, owner: str):
        self._gateway = gateway
        self._owner = owner
        # What earlier gateways left unsettled the first one delivers.
        self._settlement = gateway.settlement
        self.reports = LineReports(gateway.admission, gateway.name, gateway.pricebook)
        gateway.settlement = self.reports
        self._caller = LineCaller(gateway, self.reports, closing)
        self._lanes: dict[str, Lane] = {}
        self._open: list[OpenBatch] = []
        self._held: dict[int, HeldLine] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._ended: list[LineResult | Later] = []
        self._bytes = 0
        self._starved = asyncio.Event()  # a place is free, or a batch is new
        self._has_ended = asyncio.Event()
        self._is_stopping = False
        self.seen_at = time.monotonic()  # when batches were last looked for in vain or not

    @property
    def state(self) -> str:
        """For the probe."""
        if self._is_stopping:
            return "stopping"
        return "ready" if time.monotonic() - self.seen_at < 30 else "database away"

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop`` is set; then finish what is at the replicas, within a bound."""
        loops = [
            asyncio.create_task(for_ever(action, every_s))
            for action, every_s in (
                (self._look, LOOK_EVERY_S),
                (self._feed, 0.0),
                (self._commit, 0.0),
                (self._renew, RENEW_EVERY_S),
            )
        ]
        await stop.wait()
        self._is_stopping = True
        await self._wind_down()
        for task in loops:
            task.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        await self._hand_back_all()
        await self._settlement.stop()

    # --- Looking for work -------------------------------------------------------------------

    async def _look(self) -> None:
        """What is open, and what dead processes held."""
        reaped = await in_thread(reap_lines)
        if reaped:
            metrics.REAPED.inc(reaped)
            log.warning("batches.leases_expired", extra={"lines": reaped})
        self._open = await in_thread(get_open_batches)
        metrics.OPEN_LINES.set(await in_thread(count_open_lines))
        self.seen_at = time.monotonic()
        for batch in self._open:
            if batch.model not in self._lanes:
                self._lanes[batch.model] = Lane(batch.model, settings.BATCH_MAX_IN_FLIGHT)
        for lane in list(self._lanes.values()):
            self._adjust(lane)
        self._starved.set()

    def _adjust(self, lane: Lane) -> None:
        is_idle = not (lane.running or lane.waiting or lane.ready)
        if is_idle and all(batch.model != lane.model for batch in self._open):
            del self._lanes[lane.model]
            metrics.IN_FLIGHT.remove(lane.model)
            metrics.WINDOW.remove(lane.model)
            return
        snapshot = self._gateway.registry.snapshot
        entry = snapshot.models.get(snapshot.aliases.get(lane.model, lane.model))
        fleet = self._gateway.dispatcher.fleet
        views = [
            view
            for served in (entry.deployments if entry else ())
            for view in fleet.listed(served.deployment)
        ]
        lane.adjust(views)
        if entry is None:  # the lines shall hear that their model is gone
            lane.window = 8
        metrics.WINDOW.labels(lane.model).set(lane.window)
        metrics.IN_FLIGHT.labels(lane.model).set(lane.running)

    # --- Feeding the replicas -----------------------------------------------------------------

    async def _feed(self) -> None:
        await self._starved.wait()
        self._starved.clear()
        if self._is_stopping:
            return
        for lane in list(self._lanes.values()):
            await self._start_waiting(lane)
            # A claim is worth its round trip for a part of the window, or when a lane is dry.
            if lane.wanted and (lane.wanted * 4 >= lane.window or not lane.ready):
                await self._claim(lane)
                await self._start_waiting(lane)

    async def _claim(self, lane: Lane) -> None:
        """Shares what the lane has room for among the organizations, oldest batches first."""
        batches = [batch for batch in self._open if batch.model == lane.model]
        held = Counter(line.batch.organization for line in self._held.values())
        organizations = sorted({b.organization for b in batches}, key=lambda o: (held[o], o))
        for place, organization in enumerate(organizations):
            share = -(-lane.wanted // (len(organizations) - place))
            for batch in batches:
                if batch.organization != organization or share <= 0:
                    continue
                most = min(share, max(1, MOST_BYTES // (batch.mean_line_bytes + 1)))
                lines = await in_thread(claim_lines, batch, self._owner, most)
                share -= len(lines)
                for line in lines:
                    self._held[line.pk] = line
                lane.waiting.extend(lines)
                if len(lines) < most:  # dry, until the next look finds more
                    self._open = [each for each in self._open if each.pk != batch.pk]

    async def _start_waiting(self, lane: Lane) -> None:
        while (lane.waiting or lane.ready) and lane.room and self._has_memory:
            if not lane.ready:
                await self._read(lane)
            while lane.ready and lane.room:
                line, content = lane.ready.popleft()
                if self._held.get(line.pk) is line:  # not lost meanwhile
                    self._start(lane, line, content)
                else:
                    self._bytes -= line.length

    async def _read(self, lane: Lane) -> None:
        group = _next_group(lane)
        try:
            contents = await in_thread(read_lines, group)
        except BaseException:
            lane.waiting.extendleft(reversed(group))
            raise
        lane.ready.extend(zip(group, contents, strict=True))
        self._bytes += sum(line.length for line in group)

    @property
    def _has_memory(self) -> bool:
        return self._bytes < MOST_BYTES and len(self._ended) < MOST_UNCOMMITTED

    def _start(self, lane: Lane, line: HeldLine, content: bytes) -> None:
        lane.running += 1
        task = asyncio.create_task(self._serve(lane, line, content))
        self._tasks[line.pk] = task

    async def _serve(self, lane: Lane, line: HeldLine, content: bytes) -> None:
        try:
            ended = await self._caller.call(line, content)
            if isinstance(ended, Later) and ended.is_refusal:
                lane.refused()
            self._ended.append(ended)
            if len(self._ended) == 1 or len(self._ended) >= COMMITTED_AT_ONCE:
                self._has_ended.set()
        finally:
            lane.running -= 1
            self._bytes -= line.length
            self._tasks.pop(line.pk, None)
            self._starved.set()

    # --- Committing -----------------------------------------------------------------------------

    async def _commit(self) -> None:
        await self._has_ended.wait()
        if len(self._ended) < COMMITTED_AT_ONCE:
            await asyncio.sleep(COMMIT_AFTER_S)
        self._has_ended.clear()
        ended, self._ended = self._ended[:COMMITTED_AT_ONCE], self._ended[COMMITTED_AT_ONCE:]
        try:
            while ended:
                part = _of_one_kind(ended)
                await self._end(part)
                del ended[: len(part)]
        finally:
            self._ended = ended + self._ended
            if self._ended:
                self._has_ended.set()
            metrics.UNCOMMITTED.set(len(self._ended))

    async def _end(self, ended: list[LineResult | Later]) -> None:
        """All of them are results, or all of them are for later."""
        results = [each for each in ended if isinstance(each, LineResult)]
        later = [each for each in ended if isinstance(each, Later)]
        won = await in_thread(commit_results, results) if results else set()
        if later:
            handed = [HandedBack(each.line, each.after_s, each.is_counted) for each in later]
            await in_thread(hand_back_lines, handed)
        for each in ended:
            self._held.pop(each.line.pk, None)
        _tell(results, won, len(later))
        released = [
            self.reports.release(
                each.usage,
                is_billed=each.line.pk in won,
                is_doubted=isinstance(each, LineResult) and each.line.pk not in won,
            )
            for each in ended
            if each.usage is not None
        ]
        await asyncio.gather(*released)

    # --- Leases ---------------------------------------------------------------------------------

    async def _renew(self) -> None:
        held = list(self._held.values())
        lost = await in_thread(renew_lines, held) if held else set()
        for line in held:
            if line.pk in lost:
                await self._drop(line)

    async def _drop(self, line: HeldLine) -> None:
        """Somebody else's now, or its batch is over: stop it, and bill nothing."""
        if self._held.get(line.pk) is not line or self._is_ended(line):
            return  # its end tells the same
        del self._held[line.pk]
        lane = self._lanes.get(line.batch.model)
        if lane is not None and line in lane.waiting:
            lane.waiting.remove(line)
        task = self._tasks.get(line.pk)
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        await self._forget(line)

    def _is_ended(self, line: HeldLine) -> bool:
        return any(each.line.pk == line.pk for each in self._ended)

    async def _forget(self, line: HeldLine) -> None:
        report: UsageReport | None = self.reports.take(line.request_id)
        if report is not None:
            await self.reports.release(report, is_billed=False)

    # --- Stopping -------------------------------------------------------------------------------

    async def _wind_down(self) -> None:
        deadline = time.monotonic() + GRACE_S
        while (self._tasks or self._ended) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)

    async def _hand_back_all(self) -> None:
        """What was not finished is another's at once."""
        running = list(self._tasks.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for line in self._held.values():
            await self._forget(line)
        try:
            await in_thread(hand_back_lines, [HandedBack(line) for line in self._held.values()])
        except DatabaseError:  # their leases run out instead
            log.warning("batches.not_handed_back", exc_info=True)


def _next_group(lane: Lane) -> list[HeldLine]:
    """The first lines that wait, of one batch, that are read together."""
    group = [lane.waiting.popleft()]
    size = group[0].length
    while lane.waiting:
        line = lane.waiting[0]
        size += line.length
        is_next = line.batch.pk == group[0].batch.pk and line.position > group[-1].position
        if not is_next or size > READ_AT_ONCE_BYTES:
            break
        group.append(lane.waiting.popleft())
    return group


def _of_one_kind(ended: list[LineResult | Later]) -> list[LineResult | Later]:
    """A part of them, moved to the front, that is committed by one statement."""
    ended.sort(key=lambda each: isinstance(each, Later))
    count = sum(isinstance(each, LineResult) for each in ended)
    return ended[: count or len(ended)]


def _tell(results: list[LineResult], won: set[int], later: int) -> None:
    done = sum(result.is_done for result in results if result.line.pk in won)
    counts = {
        "done": done,
        "failed": len(won) - done,
        "lost": len(results) - len(won),
        "later": later,
    }
    for outcome, count in counts.items():
        if count:
            metrics.LINES.labels(outcome).inc(count)
    if won:
        metrics.LAST_COMMIT.set_to_current_time()
