"""``Idempotency-Key`` on the token path: who runs, who is told the first answer, who waits.

A key is its API key's own: two of a project may choose the same text. It is claimed before
anything of the request is looked at, in one Redis script, and the answer is written to the
log that the claim names. What the script cannot promise it refuses: without Redis there is
no claim, and so no run.
"""

from __future__ import annotations

import hashlib

import msgspec

from billing.usage import UsageReport
from inference import stream_log
from inference.errors import InferenceError
from inference.stream_log import Claim, Meta, StreamLogs, Writer
from tenants.errors import IdempotencyKeyReused, RequestInFlight, TenantError
from tenants.principal import Principal

KEPT_S = 86_400
# Of how a run ended: those whose answer is the client's, and paid.
_FINAL = ("completed", "blocked")
_MAY_BILL = (stream_log.OPEN, stream_log.FULL, stream_log.GONE)


class AnswerNotKept(InferenceError):
    """The first answer was given, and was too large to be kept for a second time."""

    status = 409
    code = "idempotent_answer_too_large"


class NoRoomForAnswers(TenantError):
    """Not OpenAI's to retry in a moment: room comes back as answers grow a day old."""

    status = 429
    code = "idempotency_storage_full"
    kind = "rate_limit_error"
    retry_after_s = 600.0


def is_final(status: int) -> bool:
    """Whether the same request would be answered like this again."""
    return status < 500 and status not in (409, 429)


def fingerprint_of(method: str, path: str, body: bytes) -> str:
    return hashlib.sha256(b"%b %b\0%b" % (method.encode(), path.encode(), body)).hexdigest()


async def claim(
    logs: StreamLogs, principal: Principal, key: bytes, fingerprint: str, log_id: str, path: str
) -> tuple[Claim, Writer | None]:
    """The writer of the answer's log, or the claim whose log has the answer.

    Raises IdempotencyKeyReused, RequestInFlight, AnswerNotKept, NoRoomForAnswers, LogUnavailable.
    """
    meta = meta_of(principal, path, KEPT_S)
    where = f"idempotency:{principal.organization}:{principal.project}:{principal.api_key}"
    digest = hashlib.sha256(key).hexdigest()[:32]
    found, writer = await logs.claim(f"{where}:{digest}", fingerprint, log_id, meta)
    if found.outcome == "reused":
        raise IdempotencyKeyReused(
            "This Idempotency-Key was used with another request; choose a new one."
        )
    if found.outcome == "no room":
        raise NoRoomForAnswers("Your organization keeps as many answers as it may.")
    if found.outcome == stream_log.OPEN:
        raise RequestInFlight("The first request with this Idempotency-Key is still running.")
    if found.outcome == stream_log.FULL:
        raise AnswerNotKept(
            "The answer to this Idempotency-Key was too large to be kept; choose a new one."
        )
    return found, writer


def meta_of(principal: Principal, path: str, kept_s: int = stream_log.KEPT_S) -> Meta:
    return Meta(principal.organization, principal.project, principal.api_key, path, kept_s=kept_s)


class ClaimedBill:
    """A claimed request is billed with its whole answer, or not at all, once.

    The log says first that the answer is going to be billed. Should this gateway die then,
    its hold is settled by what the worker did, and whoever claims the key next runs free;
    should it die before, nobody settles its hold with anything, and the next one pays.
    """

    def __init__(self, writer: Writer, *, is_paid: bool):
        self.log_id = writer.log_id
        self._writer = writer
        self._is_paid = is_paid

    async def judge(self, report: UsageReport) -> UsageReport:
        """The report as it may be billed."""
        may_bill = report.status in _FINAL and not self._is_paid
        if may_bill and await self._writer.commit() in _MAY_BILL:
            return report
        return msgspec.structs.replace(
            report, prompt_tokens=0, cached_tokens=0, completion_tokens=0
        )
