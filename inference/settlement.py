"""Ending requests: the hold is released and the usage report appended, for certain.

One attempt is made at once. When Redis does not answer, the settlement waits in
memory and is tried again; what a stopping process could not deliver it leaves in
a file that the next gateway on this machine picks up. What was settled lately is
kept, in memory and in a journal for who comes after a kill -9, in case Redis loses
it before the ledger has it. The ledger counts a request id once, so delivering
twice is harmless.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections import deque
from pathlib import Path

import msgspec
from django.conf import settings
from redis.exceptions import RedisError

from billing.pricebook import Pricebook
from billing.usage import UsageReport, decode_report, encode_report
from inference import metrics
from inference.settlement_journal import Journal, framed
from tenants.admission import Admission
from tenants.patience import Patience

log = logging.getLogger(__name__)

# How long an answer may wait for its settlement before it goes out unsettled.
PATIENCE_S = 0.5
# What waits dies with its gateway, so it does not wait long once Redis is back.
RETRY_S = (0.1, 1.0)
MOST_WAITING = 200_000
# The control worker takes reports from Redis every second; this outlasts its restart.
KEPT_S = 30.0
MOST_KEPT = 100_000
# How often a gateway looks for the journals of others here that died.
ADOPT_EVERY_S = 5.0


class Settlement:
    """``run`` retries for ever as a task; ``stop`` delivers or saves what is left."""

    # Whether reports are recorded together with a result, by somebody else.
    bills_with_result = False

    def __init__(self, admission: Admission, gateway: str, pricebook: Pricebook):
        self._admission = admission
        self._pricebook = pricebook
        self._waiting: deque[UsageReport] = deque()
        self._delivered: deque[tuple[float, UsageReport]] = deque(maxlen=MOST_KEPT)
        self._patience = Patience(PATIENCE_S)
        self._wake = asyncio.Event()
        self._has_saved = False
        self._folder = Path(settings.STATE_DIR) / "unsettled"
        self._file = self._folder / f"{gateway}.msgpack"
        self._journal = Journal(self._folder, gateway, KEPT_S, lambda: not self._waiting)

    async def settle(self, report: UsageReport) -> None:
        """End one request. Returns when it is settled, or queued because Redis is away."""
        content = encode_report(report)
        self._journal.note(content)
        try:
            await self._deliver(report, content, self._patience)
        except asyncio.CancelledError:
            # The caller's client went away meanwhile; the request must end all the same.
            self._queue(report)
            raise
        except (RedisError, OSError, TimeoutError) as error:
            log.warning(
                "settlement.queued",
                extra={"request_id": report.request_id, "error": repr(error)},
            )
            self._queue(report)

    async def run(self) -> None:
        delay = RETRY_S[0]
        self._load_saved()
        while True:
            await self._woken()
            self._adopt()
            while self._waiting:
                report = self._waiting[0]
                try:
                    async with asyncio.timeout(5):
                        await self._deliver(report, encode_report(report))
                except (RedisError, OSError, TimeoutError):
                    await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311
                    delay = min(delay * 2, RETRY_S[1])
                else:
                    delay = RETRY_S[0]
                    # Unless all were saved meanwhile, and another one stands first.
                    if self._waiting and self._waiting[0] is report:
                        self._waiting.popleft()
                    metrics.UNSETTLED.set(len(self._waiting))
            if self._has_saved:  # what memory had no room for
                self._has_saved = False
                self._load_saved()

    async def _woken(self) -> None:
        try:
            async with asyncio.timeout(ADOPT_EVERY_S):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    def _adopt(self) -> None:
        """Deliver what gateways settled shortly before they were killed here. Most of it was
        counted and is not counted again."""
        for content in self._journal.adopted():
            reports = _read_reports(content)
            log.warning("settlement.adopted", extra={"reports": len(reports)})
            for report in reports:
                self._queue(report)
                self._journal.note(encode_report(report))

    def deliver_again(self) -> None:
        """Redis lost its data, and with it reports that nobody had recorded yet."""
        horizon = time.monotonic() - KEPT_S
        again = [report for at, report in self._delivered if at >= horizon]
        self._delivered.clear()
        log.warning("settlement.delivered_again", extra={"reports": len(again)})
        for report in again:
            self._queue(report)

    async def stop(self) -> None:
        """Call when no request is left and ``run`` is cancelled."""
        while self._waiting:
            try:
                async with asyncio.timeout(1):
                    await self._deliver(self._waiting[0], encode_report(self._waiting[0]))
            except (RedisError, OSError, TimeoutError):
                self._save()
                break
            self._waiting.popleft()
        self._journal.remove()

    async def _deliver(
        self, report: UsageReport, content: bytes, patience: Patience | None = None
    ) -> None:
        used = report.prompt_tokens + report.completion_tokens
        is_settled = await self._admission.settle(
            report.request_id,
            used_tokens=used,
            cost_micros=self._pricebook.cost_micros(report),
            report=content,
            patience=patience,
        )
        self._keep(report)
        if used and not is_settled:
            # Redis lost the hold, or this is a second delivery. Only the first is a reason to
            # read sums anew, but which it is nobody can say, and reading them harms nothing.
            async with asyncio.timeout(PATIENCE_S):
                await self._admission.doubt(
                    organization=report.organization,
                    project=report.project,
                    api_key=report.api_key,
                    model=report.model,
                )

    def _keep(self, report: UsageReport) -> None:
        now, kept = time.monotonic(), self._delivered
        kept.append((now, report))
        while kept[0][0] < now - KEPT_S:
            kept.popleft()

    def _queue(self, report: UsageReport) -> None:
        if len(self._waiting) >= MOST_WAITING:
            self._save()
        self._waiting.append(report)
        metrics.UNSETTLED.set(len(self._waiting))
        self._wake.set()

    def _save(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with open(self._file, "ab", opener=lambda p, f: os.open(p, f, 0o600)) as file:
            for report in self._waiting:
                file.write(framed(encode_report(report)))
        self._has_saved = True
        log.warning("settlement.saved", extra={"reports": len(self._waiting)})
        self._waiting.clear()

    def _load_saved(self) -> None:
        """Take over what gateways that stopped before us could not deliver."""
        for path in sorted(self._folder.glob("*.msgpack")) if self._folder.is_dir() else []:
            mine = path.with_suffix(f".{os.getpid()}.taken")
            try:
                path.rename(mine)  # atomic: of two gateways that start, one gets it
            except OSError:
                continue
            for report in _read_reports(mine.read_bytes()):
                self._queue(report)
            mine.unlink()


def _read_reports(content: bytes) -> list[UsageReport]:
    reports, at = [], 0
    while at + 4 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        try:
            reports.append(decode_report(content[at + 4 : at + 4 + size]))
        except msgspec.MsgspecError:
            log.error("settlement.unreadable_report", extra={"at": at})
        at += 4 + size
    return reports
