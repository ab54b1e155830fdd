"""One line through the same steps as a live request, and what becomes of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec
from redis.exceptions import RedisError

from api.asgi import ENDPOINTS, check_scope
from api.batches.reports import LineReports
from api.errors import INTERNAL, ApiError, api_error
from api.gateway import Gateway
from api.key_principals import KeyPrincipals
from api.run import Run
from billing.usage import UsageReport
from inference.batches.commit import LineResult
from inference.batches.lines import MOST_ATTEMPTS, HeldLine
from inference.batches.output import error_line, line_id
from inference.batches.requests import decode_request
from inference.errors import InferenceError, NoReplica, Overloaded
from tenants.errors import (
    AdmissionUnavailable,
    LimitExceeded,
    TenantError,
)

log = logging.getLogger(__name__)

# What passes by itself costs no attempt; what may be the line's own fault does.
UNCOUNTED = (NoReplica, Overloaded, AdmissionUnavailable)
AFTER_UNAVAILABLE_S, AFTER_FAILURE_S = 2.0, 5.0


@dataclass(frozen=True, slots=True)
class Later:
    """The line could not be run now."""

    line: HeldLine
    after_s: float
    is_counted: bool
    is_refusal: bool  # the fleet had no room
    usage: UsageReport | None  # of a hold to be released


class LineCaller:
    """Runs lines in the name of the keys that made their batches."""

    def __init__(
        self, gateway: Gateway, reports: LineReports, in_thread: Callable[..., object]
    ) -> None:
        self._gateway = gateway
        self._reports = reports
        self._principals = KeyPrincipals(in_thread)

    async def call(self, line: HeldLine, content: bytes) -> LineResult | Later:
        """Raises only CancelledError; the hold is then the caller's to release."""
        if line.attempts > MOST_ATTEMPTS:
            return _unanswered(line, "line_abandoned", "Every process that ran this line died.")
        try:
            answer = await self._answer(line, content)
        except (TenantError, InferenceError) as error:
            return self._judged(line, error)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("batch.line_failed", extra=_named(line) | {"error": repr(error)})
            return self._later(line, AFTER_UNAVAILABLE_S)
        except Exception:
            # The edge of one line: whatever it was, the batch goes on.
            log.exception("batch.line_broke", extra=_named(line))
            return self._failed(line, INTERNAL)
        usage = self._reports.take(line.request_id)
        return LineResult(line, True, _answered(line, 200, answer), usage)

    async def _answer(self, line: HeldLine, content: bytes) -> bytes:
        principal = replace(await self._principals.get(line.batch.api_key), tier="batch")
        check_scope(principal, line.batch.endpoint)
        prepare = ENDPOINTS[line.batch.endpoint]
        body = bytes(decode_request(content).body)
        started_at = time.monotonic()
        call = await prepare(self._gateway, principal, body, line.request_id, started_at)
        async with Run(self._gateway, call.plan) as run:
            self._reports.note_admitted(line.batch.organization, line.request_id)
            return await call.whole(run)

    # --- What an error means ------------------------------------------------------------------

    def _judged(self, line: HeldLine, error: TenantError | InferenceError) -> LineResult | Later:
        if isinstance(error, UNCOUNTED):
            after_s = max(AFTER_UNAVAILABLE_S, getattr(error, "retry_after_s", None) or 0)
            return self._later(line, after_s, is_refusal=True)
        if isinstance(error, LimitExceeded) and self._reports.has_holds(line.batch.organization):
            # Holds are for the longest answers: what other lines give back may be enough.
            return self._later(line, AFTER_UNAVAILABLE_S, is_refusal=True)
        if error.status >= 500:
            if line.attempts < MOST_ATTEMPTS:
                return self._later(line, AFTER_FAILURE_S, is_counted=True)
            return self._failed(line, api_error(error))
        return self._failed(line, api_error(error))

    def _later(
        self,
        line: HeldLine,
        after_s: float,
        *,
        is_counted: bool = False,
        is_refusal: bool = False,
    ) -> Later:
        return Later(line, after_s, is_counted, is_refusal, self._reports.take(line.request_id))

    def _failed(self, line: HeldLine, error: ApiError) -> LineResult:
        """With whatever was used: an answer that screening ended is paid up to there."""
        usage = self._reports.take(line.request_id)
        return LineResult(line, False, _answered(line, error.status, error.body()), usage)


def _answered(line: HeldLine, status: int, body: bytes) -> bytes:
    """OpenAI's form of a line that was answered, well or not."""
    return msgspec.json.encode(
        {
            "id": line_id(line.batch.public_id, line.number),
            "custom_id": line.custom_id,
            "response": {
                "status_code": status,
                "request_id": line.request_id,
                "body": msgspec.Raw(body),
            },
            "error": None,
        }
    )


def _unanswered(line: HeldLine, code: str, message: str) -> LineResult:
    error = {"code": code, "message": message}
    content = error_line(line.batch.public_id, line.number, line.custom_id, error)
    return LineResult(line, False, content)


def _named(line: HeldLine) -> dict[str, object]:
    return {"batch": line.batch.public_id, "line": line.number, "request_id": line.request_id}
