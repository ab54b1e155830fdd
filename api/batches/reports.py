"""What a batch process runs is billed where its result is committed, and not by the stream of
usage reports: lines of batches, background responses."""

from __future__ import annotations

import logging
from collections import defaultdict

from redis.exceptions import RedisError

from billing.pricebook import Pricebook
from billing.usage import UsageReport
from inference.settlement import Settlement
from tenants.admission import Admission

log = logging.getLogger(__name__)


class LineReports(Settlement):
    """Keeps what ``Run`` settles until the result is committed, or is not.

    Meanwhile the hold stays: a budget cannot be spent twice. One that nobody ends expires, and
    the reconciler ends it without a bill (``inference.holds``).
    """

    bills_with_result = True

    def __init__(self, admission: Admission, gateway: str, pricebook: Pricebook):
        super().__init__(admission, gateway, pricebook)
        self._kept: dict[str, UsageReport] = {}
        self._admitted: dict[int, set[str]] = defaultdict(set)

    def note_admitted(self, organization: int, request_id: str) -> None:
        self._admitted[organization].add(request_id)

    def has_holds(self, organization: int) -> bool:
        """Whether this organization's work here holds a part of its budget right now."""
        return bool(self._admitted.get(organization))

    async def settle(self, report: UsageReport) -> None:
        self._kept[report.request_id] = report

    def take(self, request_id: str) -> UsageReport | None:
        """The report of a run that is over; None if it was never admitted."""
        return self._kept.pop(request_id, None)

    async def release(
        self, report: UsageReport, *, is_billed: bool, is_doubted: bool = False
    ) -> None:
        """End the hold: with what was used if that was recorded, else with nothing.

        Doubted is what may have been recorded though nobody could say so: then the sums are
        read anew.
        """
        admitted = self._admitted[report.organization]
        admitted.discard(report.request_id)
        if not admitted:
            del self._admitted[report.organization]
        used = report.prompt_tokens + report.completion_tokens
        try:
            await self._admission.settle(
                report.request_id,
                used_tokens=used if is_billed else 0,
                cost_micros=self._pricebook.cost_micros(report) if is_billed else 0,
                report=b"",
            )
            if is_doubted and used:
                await self._admission.doubt(
                    organization=report.organization,
                    project=report.project,
                    api_key=report.api_key,
                    model=report.model,
                )
        except (RedisError, OSError, TimeoutError) as error:
            extra = {"request_id": report.request_id, "error": repr(error)}
            log.warning("batch.hold_left_to_expire", extra=extra)
