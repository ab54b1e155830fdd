"""What a hold remembers of its request, and what becomes of holds that nobody settled."""

from __future__ import annotations

import asyncio
import logging
import time

import msgspec
from django.conf import settings

from billing.usage import UsageReport, encode_report
from inference import wire
from inference.streams import read_all
from tenants.admission import Admission, ExpiredHold
from tenants.redis_link import RedisLink

log = logging.getLogger(__name__)

# A dead gateway's requests are settled this long after admission at the earliest:
# its workers need GATEWAY_GRACE_S to notice, and some seconds to say what they did.
ABANDONED_AFTER_S = 45.0
MOST_A_RUN = 2_000


class HoldNote(msgspec.Struct, frozen=True, array_like=True):
    """Enough to write the request's usage without the gateway that admitted it."""

    gateway: str
    organization: int
    project: int
    api_key: int
    model: str
    endpoint: str
    admitted_at: float


encode_note = msgspec.msgpack.Encoder().encode
_decode_note = msgspec.msgpack.Decoder(HoldNote).decode


def reconcile_holds() -> int:
    """Settle holds that expired or whose gateway died. Returns how many."""
    return asyncio.run(_reconcile())


async def _reconcile() -> int:
    link = RedisLink(settings.REDIS_URL, timeout_s=settings.REDIS_TIMEOUT_S, name="reconcile")
    try:
        admission = Admission(link, settings.HOLD_EXPIRY_S)
        now = time.time()
        # Every hold that is old enough to be looked at, not only the expired ones.
        horizon = now + settings.HOLD_EXPIRY_S - ABANDONED_AFTER_S
        due = await admission.expired_holds(horizon, MOST_A_RUN)
        left = [hold for hold in due if await _is_left(link, hold, now)]
        if not left:
            return 0
        used = await _worker_usage(link)
        for hold in left:
            await _settle(admission, hold, used.get(hold.request_id, []))
        return len(left)
    finally:
        await link.aclose()


async def _is_left(link: RedisLink, hold: ExpiredHold, now: float) -> bool:
    if hold.expired_at <= now:
        return True
    gateway = _decode_note(hold.note).gateway
    return not await link.call("EXISTS", wire.mailbox_of(gateway))


async def _worker_usage(
    link: RedisLink,
) -> dict[str, list[wire.WorkerUsage]]:
    """What workers noted of the last hour, by request id (several for ``n`` > 1)."""
    found: dict[str, list[wire.WorkerUsage]] = {}
    for _, fields in await read_all(link, wire.WORKER_USAGE):
        for usage in wire.decode_worker_usage(fields[b"u"]):
            found.setdefault(usage.request_id.partition("/")[0], []).append(usage)
    return {request_id: _furthest(notes) for request_id, notes in found.items()}


def _furthest(notes: list[wire.WorkerUsage]) -> list[wire.WorkerUsage]:
    """One note a sequence: an attempt that was given up counts within the one after it."""
    best: dict[str, wire.WorkerUsage] = {}
    for note in notes:
        known = best.get(note.request_id)
        if known is None or note.completion_tokens > known.completion_tokens:
            best[note.request_id] = note
    return list(best.values())


async def _settle(admission: Admission, hold: ExpiredHold, used: list[wire.WorkerUsage]) -> None:
    """Bill what the worker noted; nothing when no worker saw the request end."""
    note = _decode_note(hold.note)
    report = UsageReport(
        request_id=hold.request_id,
        organization=note.organization,
        project=note.project,
        api_key=note.api_key,
        model=note.model,
        endpoint=note.endpoint,
        status="cancelled" if used else "failed",
        source="worker",
        prompt_tokens=prompt_tokens_of(used),
        cached_tokens=max((usage.cached_tokens for usage in used), default=0),
        completion_tokens=sum(usage.completion_tokens for usage in used),
        started_at=note.admitted_at,
        time_to_first_token_ms=None,
        duration_ms=int(
            1000 * (max((usage.finished_at for usage in used), default=note.admitted_at)
                    - note.admitted_at)
        ),
        replica=used[0].replica if used else "",
    )  # fmt: skip
    tokens = report.prompt_tokens + report.completion_tokens
    await admission.settle(hold.request_id, tokens, encode_report(report))
    log.warning("hold.reconciled", extra={"request_id": hold.request_id, "tokens": tokens})


def prompt_tokens_of(used: list[wire.WorkerUsage]) -> int:
    """Several answers to one prompt count it once; several prompts count each.

    Sequence ids are ``request/prompt.choice`` (``api.run``).
    """
    prompts = {usage.request_id.rpartition(".")[0]: usage.prompt_tokens for usage in used}
    return sum(prompts.values())
