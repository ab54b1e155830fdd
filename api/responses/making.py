"""One attempt at a response in the background: the same steps as a live one, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
from django.db import DatabaseError
from redis.exceptions import RedisError

from api.asgi import check_scope
from api.batches.reports import LineReports
from api.controls import Controls
from api.errors import INTERNAL, ApiError, api_error, decoded
from api.gateway import Gateway
from api.key_principals import KeyPrincipals
from api.loops import AFTER_ERROR_S, in_thread
from api.plan import Plan
from api.resources import DatabaseAway
from api.responses.background import PATH
from api.responses.handler import ResponseCall, call_of, told_error
from api.responses.items import Item
from api.responses.replay import abandoned, ending
from api.responses.wire import ResponseRequest, decode
from api.run import Run
from billing.usage import UsageReport
from inference.answers import metrics
from inference.answers.ending import end_response, expired
from inference.answers.leases import MOST_ATTEMPTS, HeldResponse, hand_back_response
from inference.errors import InferenceError, NoReplica, Overloaded, RequestFailed
from inference.stream_log import Event, LogUnavailable, Writer
from tenants.errors import AdmissionUnavailable, LimitExceeded, TenantError

log = logging.getLogger(__name__)

# What passes by itself costs no attempt; what may be the response's own fault does.
UNCOUNTED = (NoReplica, Overloaded, AdmissionUnavailable, DatabaseAway, LogUnavailable)
AFTER_UNAVAILABLE_S, AFTER_FAILURE_S = 2.0, 5.0
# A limit that resets in an hour may be raised in a minute.
LONGEST_WAIT_S = 60.0

# Why an attempt is stopped.
CANCELLED, EXPIRED, LOST, STOPPING = "cancelled", "expired", "lost", "stopping"
# Of the events that the request itself was told: created, queued.
_TOLD_AT_FIRST = 2


class NotOurs(Exception):
    """The response is somebody else's by now, or gone."""


class BackgroundCall(ResponseCall):
    """``ended`` keeps the response, and gives it as it is kept."""

    def __init__(
        self,
        held: HeldResponse,
        created_at: int,
        ended: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]],
        body: ResponseRequest,
        plan: Plan,
        items: list[Item],
    ):
        super().__init__(body, plan, items, held.public_id, created_at)
        self._ended = ended
        self._may_try_again = held.attempts < MOST_ATTEMPTS
        self._writer.response["store"] = True
        self.run: Run | None = None

    def go_on(self, number: int, first_place: int) -> None:
        self._writer.go_on(number, first_place)

    def cancelled(self) -> dict[str, Any]:
        """What was made by now."""
        has_said = self.run is not None and self.run.completion_tokens > 0
        usage = self._usage(self.run) if self.run is not None and has_said else None
        self._writer.end("cancelled", usage=usage)
        return self._writer.response

    def _broken(self, run: Run, error: TenantError | InferenceError) -> list[bytes]:
        if error.status >= 500 and self._may_try_again:
            raise error
        return super()._broken(run, error)

    async def _keep(self) -> None:
        response = self._writer.response
        response.update(await self._ended(response))


class Making:
    """``run`` returns when the response has ended, was handed back, or is not ours any more."""

    def __init__(
        self,
        gateway: Gateway,
        reports: LineReports,
        principals: KeyPrincipals,
        held: HeldResponse,
    ):
        self.held = held
        self._gateway = gateway
        self._reports = reports
        self._principals = principals
        self._call: BackgroundCall | None = None
        self._log: Writer | None = None
        self._reason = ""  # to stop
        self._is_ending = False  # from then on nothing stops it
        self._work: asyncio.Task[None] | None = None

    async def run(self) -> None:
        self._work = asyncio.create_task(self._make())
        await asyncio.wait([self._work], timeout=max(0.0, self.held.left_s))
        if not self._work.done():
            self.stop(EXPIRED)
            await asyncio.wait([self._work])
        try:
            if self._work.cancelled():
                await self._stopped()
            elif (error := self._work.exception()) is not None:
                await self._judge(error)
        except NotOurs:
            metrics.ENDED.labels("lost").inc()
        if self._log is not None:
            await self._log.drain()

    def stop(self, reason: str) -> None:
        if self._work is not None and not self._is_ending and not self._reason:
            self._reason = reason
            self._work.cancel()

    # --- Making ---------------------------------------------------------------------------

    async def _make(self) -> None:
        held = self.held
        if held.attempts > MOST_ATTEMPTS:
            raise RequestFailed("Every process that made this response died.")
        principal = await self._principals.get(held.api_key)
        check_scope(principal, PATH)
        request = held.request
        body = decoded(decode, request["body"].encode())
        call = self._call = await call_of(
            partial(BackgroundCall, held, request["created_at"], self._end),
            self._gateway,
            principal,
            body,
            held.request_id,
            time.monotonic(),
            msgspec.convert(request["controls"], Controls),
        )
        if held.has_log:
            await self._open_log(call)
        async with Run(self._gateway, call.plan) as run:
            self._reports.note_admitted(held.organization, held.request_id)
            call.run = run
            if self._log is None:
                run.wait_for_all()
            async for events in call.chunks(run):
                self._tell(events)
        if self._log is not None:
            await self._log.end()

    async def _open_log(self, call: BackgroundCall) -> None:
        """Go on after what was told; an earlier attempt's items are ended first."""
        logs, log_id = self._gateway.logs, self.held.log_id
        self._log = await logs.take(log_id, self.held.token)
        if self._log is None:
            return
        told = await logs.stored(log_id, _TOLD_AT_FIRST)
        closing, places = abandoned([event.data for event in told], self._log.last)
        self._tell(closing)
        call.go_on(self._log.last, places)

    def _tell(self, events: list[bytes]) -> None:
        if self._log is not None:
            for event in events:
                self._log.append(Event(event))

    # --- Ending ---------------------------------------------------------------------------

    async def _end(self, changes: dict[str, Any], *, is_free: bool = False) -> dict[str, Any]:
        """The response as it is kept. Raises NotOurs, and nothing is billed."""
        self._is_ending = True
        usage = self._reports.take(self.held.request_id)
        recorded = _unbilled(usage) if usage is not None and is_free else usage
        final = None
        try:
            final = await self._end_for_certain(changes, recorded)
        finally:
            if usage is not None:
                await self._reports.release(
                    usage,
                    is_billed=final is not None and not is_free,
                    is_doubted=final is None,
                )
        if final is None:
            raise NotOurs
        metrics.ENDED.labels(final["status"]).inc()
        return final

    async def _end_for_certain(
        self, changes: dict[str, Any], usage: UsageReport | None
    ) -> dict[str, Any] | None:
        """While PostgreSQL is away: again, until it says whether the response is still ours."""
        while True:
            try:
                return await in_thread(end_response, self.held, changes, usage)
            except DatabaseError as error:
                log.warning("background.not_ended", extra=self._named(error))
                await asyncio.sleep(AFTER_ERROR_S)

    async def _end_and_tell(self, changes: dict[str, Any], *, is_free: bool = False) -> None:
        final = await self._end(changes, is_free=is_free)
        if self.held.has_log and self._log is None:  # nothing was begun
            self._log = await self._taken()
        if self._log is not None:
            await self._log.drain()
            self._tell([ending({"id": self.held.public_id, **final}, self._log.last)])
            await self._log.end()

    async def _taken(self) -> Writer | None:
        try:
            return await self._gateway.logs.take(self.held.log_id, self.held.token)
        except LogUnavailable:  # its readers look at the row
            return None

    async def _stopped(self) -> None:
        if self._reason == CANCELLED:
            call = self._call
            changes = {"status": "cancelled"} if call is None else call.cancelled()
            await self._end_and_tell(changes)
        elif self._reason == EXPIRED:
            await self._end_and_tell(expired(), is_free=True)
        elif self._reason == LOST:
            await self._forget()
            raise NotOurs
        else:
            await self._later(0.0, is_counted=False)

    async def _judge(self, error: BaseException) -> None:
        """What an error means for the response."""
        if isinstance(error, NotOurs):
            raise error
        after_s = getattr(error, "retry_after_s", None) or 0.0
        after_s = min(LONGEST_WAIT_S, max(AFTER_UNAVAILABLE_S, after_s))
        if isinstance(error, UNCOUNTED) or self._is_a_matter_of_time(error):
            await self._later(after_s, is_counted=False)
        elif isinstance(error, TenantError | InferenceError):
            if error.status >= 500 and self.held.attempts < MOST_ATTEMPTS:
                await self._later(AFTER_FAILURE_S, is_counted=True)
            else:
                await self._fail(api_error(error))
        elif isinstance(error, RedisError | OSError | TimeoutError):
            log.warning("background.interrupted", extra=self._named(error))
            await self._later(AFTER_UNAVAILABLE_S, is_counted=False)
        else:
            # The edge of one response: whatever it was, the others go on.
            log.error("background.broke", exc_info=error, extra=self._named(error))
            await self._fail(INTERNAL)

    def _is_a_matter_of_time(self, error: BaseException) -> bool:
        """A rate, or a budget of which others hold a part that they may give back."""
        if not isinstance(error, LimitExceeded):
            return False
        if error.code == "rate_limit_exceeded":
            return error.retry_after_s is not None
        return self._reports.has_holds(self.held.organization)

    async def _fail(self, error: ApiError) -> None:
        await self._end_and_tell({"status": "failed", "error": told_error(error)}, is_free=True)

    async def _later(self, after_s: float, *, is_counted: bool) -> None:
        """Somebody makes it anew, unless it was cancelled at this moment."""
        await self._forget()
        if await in_thread(partial(hand_back_response, self.held, after_s, is_counted=is_counted)):
            metrics.ENDED.labels("later").inc()
        else:
            await self._end_and_tell({"status": "cancelled"})

    async def _forget(self) -> None:
        usage = self._reports.take(self.held.request_id)
        if usage is not None:
            await self._reports.release(usage, is_billed=False)

    def _named(self, error: BaseException) -> dict[str, object]:
        return {
            "response": self.held.public_id,
            "request_id": self.held.request_id,
            "error": repr(error),
        }


def _unbilled(usage: UsageReport) -> UsageReport:
    return msgspec.structs.replace(
        usage, status="failed", prompt_tokens=0, cached_tokens=0, completion_tokens=0
    )
