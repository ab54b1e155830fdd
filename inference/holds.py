"""What a hold remembers of its request, and what becomes of holds that nobody settled."""

from __future__ import annotations

import asyncio
import logging
import time

import msgspec
from django.conf import settings

from billing.pricebook import Pricebook
from billing.usage import UsageReport, encode_report
from inference import wire
from inference.stream_log import forsake
from inference.streams import read_all
from tenants.admission import Admission, ExpiredHold
from tenants.principal import key_of
from tenants.redis_link import RedisLink

log = logging.getLogger(__name__)

# A dead gateway's requests are settled this long after admission at the earliest:
# its workers need GATEWAY_GRACE_S to notice, and some seconds to say what they did.
ABANDONED_AFTER_S = 45.0
# And this long after its mailbox was first seen missing, for the same reason: what ran
# for minutes is old enough the moment its gateway dies.
GONE_GRACE_S = 15.0
GONE_KEPT_S = 120
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
    tier: str = "standard"
    # Of a request with an Idempotency-Key: it is billed if its answer was committed there.
    log: str = ""
    # Recorded in the transaction that keeps its result, or not at all: of a batch's line and of a
    # background response.
    is_billed_with_result: bool = False


encode_note = msgspec.msgpack.Encoder().encode
_decode_note = msgspec.msgpack.Decoder(HoldNote).decode


def reconcile_holds() -> int:
    """Settle holds that expired or whose gateway died. Returns how many.

    Raises DatabaseError when prices cannot be read: a budget charged nothing is overspent.
    """
    pricebook = Pricebook()
    pricebook.load()
    return asyncio.run(_reconcile(pricebook))


async def _reconcile(pricebook: Pricebook) -> int:
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
            await _settle(link, admission, pricebook, hold, used.get(hold.request_id, []))
        return len(left)
    finally:
        await link.aclose()


async def _is_left(link: RedisLink, hold: ExpiredHold, now: float) -> bool:
    if hold.expired_at <= now:
        return True
    note = _note_of(hold)
    if note is None or await link.call("EXISTS", wire.mailbox_of(note.gateway)):
        return False
    gone = f"gone.{note.gateway}"
    await link.call("SET", gone, now, "NX", "EX", GONE_KEPT_S)
    return now - float(await link.call("GET", gone) or now) >= GONE_GRACE_S


def _note_of(hold: ExpiredHold) -> HoldNote | None:
    try:
        return _decode_note(hold.note)
    except msgspec.MsgspecError as error:
        log.error("hold.unreadable", extra={"request_id": hold.request_id, "error": repr(error)})
        return None


async def _worker_usage(
    link: RedisLink,
) -> dict[str, list[wire.WorkerUsage]]:
    """What workers noted of the last hour, by request id (several for ``n`` > 1)."""
    found: dict[str, list[wire.WorkerUsage]] = {}
    for message_id, fields in await read_all(link, wire.WORKER_USAGE):
        try:
            notes = wire.decode_worker_usage(fields.get(b"u", b""))
        except msgspec.MsgspecError as error:
            log.error("worker_usage.unreadable", extra={"id": message_id, "error": repr(error)})
            continue
        for usage in filter(_is_billable, notes):
            found.setdefault(usage.request_id.partition("/")[0], []).append(usage)
    return {request_id: _furthest(notes) for request_id, notes in found.items()}


def _is_billable(note: wire.WorkerUsage) -> bool:
    """An error bills nothing, nor what was aborted before its first token."""
    if note.finish_reason == "error":
        return False
    return note.completion_tokens > 0 or note.finish_reason != "abort"


def _furthest(notes: list[wire.WorkerUsage]) -> list[wire.WorkerUsage]:
    """One note a sequence: an attempt that was given up counts within the one after it."""
    best: dict[str, wire.WorkerUsage] = {}
    for note in notes:
        known = best.get(note.request_id)
        if known is None or note.completion_tokens > known.completion_tokens:
            best[note.request_id] = note
    return list(best.values())


async def _settle(
    link: RedisLink,
    admission: Admission,
    pricebook: Pricebook,
    hold: ExpiredHold,
    used: list[wire.WorkerUsage],
) -> None:
    """Bill what the worker noted; nothing when no worker saw the request end."""
    note = _note_of(hold)
    if note is None:  # nobody to bill, but the limits must not stay taken
        await admission.settle(hold.request_id, used_tokens=0, cost_micros=0, report=b"")
        return
    if note.is_billed_with_result or note.tier == "batch":
        # In inference.batches.commit and inference.answers.ending.
        await admission.settle(hold.request_id, used_tokens=0, cost_micros=0, report=b"")
        return
    if note.log and not await forsake(link, note.log):
        # Nobody has its answer, and whoever asks again with its key pays.
        used = []
    report = _report(hold.request_id, note, used)
    tokens = report.prompt_tokens + report.completion_tokens
    await admission.settle(
        hold.request_id,
        used_tokens=tokens,
        cost_micros=pricebook.cost_micros(report),
        report=encode_report(report),
    )
    log.warning("hold.reconciled", extra={"request_id": hold.request_id, "tokens": tokens})


def _report(request_id: str, note: HoldNote, used: list[wire.WorkerUsage]) -> UsageReport:
    finished_at = max((usage.finished_at for usage in used), default=note.admitted_at)
    return UsageReport(
        request_id=request_id,
        organization=note.organization,
        project=note.project,
        api_key=key_of(note.api_key),
        model=note.model,
        endpoint=note.endpoint,
        status="cancelled" if used else "failed",
        source="worker",
        prompt_tokens=prompt_tokens_of(used),
        cached_tokens=cached_tokens_of(used),
        completion_tokens=sum(usage.completion_tokens for usage in used),
        started_at=note.admitted_at,
        time_to_first_token_ms=None,
        # Two machines' clocks: a worker's may be behind the gateway's.
        duration_ms=max(0, int(1000 * (finished_at - note.admitted_at))),
        replica=used[0].replica if used else "",
        engine_us=sum(usage.engine_us for usage in used),
        tier=note.tier,
    )


def prompt_tokens_of(used: list[wire.WorkerUsage]) -> int:
    """Several answers to one prompt count it once; several prompts count each.

    Sequence ids are ``request/prompt.choice`` (``api.run``).
    """
    prompts = {usage.request_id.rpartition(".")[0]: usage.prompt_tokens for usage in used}
    return sum(prompts.values())


def cached_tokens_of(used: list[wire.WorkerUsage]) -> int:
    """The same for what was found in the KV cache, which is billed at its own price."""
    cached: dict[str, int] = {}
    for usage in used:
        prompt = usage.request_id.rpartition(".")[0]
        cached[prompt] = max(cached.get(prompt, 0), usage.cached_tokens)
    return sum(cached.values())
