"""The two scripts, called from gateways (async) and from the reconciler."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

from redis.exceptions import RedisError

from tenants.admission.limits import checks_for, rate_headers, refusal_message
from tenants.errors import AdmissionUnavailable, LimitExceeded, RateHeaders
from tenants.principal import Principal
from tenants.redis_link import Part, RedisLink, Script

HOLDS = "holds"
USAGE_STREAM = "usage.reports"
# At some 200 bytes a report this is 200 MB: hours of traffic while PostgreSQL is
# away. Past it nothing is admitted, because it could not be billed.
MOST_WAITING_REPORTS = 1_000_000
NEVER_MS = 10**15  # as in admit.lua
_FOLDER = Path(__file__).parent
ADMIT = Script((_FOLDER / "admit.lua").read_text())
SETTLE = Script((_FOLDER / "settle.lua").read_text())


@dataclass(frozen=True, slots=True)
class Hold:
    """A reservation of every limit for one request, to be settled exactly once."""

    request_id: str
    headers: RateHeaders


@dataclass(frozen=True, slots=True)
class ExpiredHold:
    request_id: str
    note: bytes
    expired_at: float  # Unix seconds


class Admission:
    """Checks and reserves limits, settles them; one for each process."""

    def __init__(self, link: RedisLink, hold_expiry_s: float):
        self._link = link
        self._expiry_ms = int(hold_expiry_s * 1000)

    async def admit(
        self,
        principal: Principal,
        request_id: str,
        *,
        expected_tokens: int,
        most_tokens: int,
        note: bytes,
    ) -> Hold:
        """Reserve every limit at once, or raise LimitExceeded / AdmissionUnavailable.

        ``note`` (opaque) is kept with the hold for whoever reconciles it.
        """
        checks = checks_for(principal, expected_tokens, most_tokens, time.time())
        keys = [f"hold:{request_id}", HOLDS, USAGE_STREAM]
        arguments: list[Part] = [
            request_id, self._expiry_ms, note, MOST_WAITING_REPORTS
        ]  # fmt: skip
        for check in checks:
            keys.append(check.key)
            arguments += (
                check.kind,
                check.unit,
                max(1, check.limit),
                check.cost,
                check.period_ms,
            )
            if check.limit == 0:  # a bucket of nothing has no rate; make it refuse
                arguments[-2] = 2
        try:
            answer = await self._link.run_script(ADMIT, keys, arguments)
        except (RedisError, OSError, TimeoutError) as error:
            raise AdmissionUnavailable(
                "Limits cannot be checked right now. Try again shortly."
            ) from error
        if answer[0] == 1:
            return Hold(request_id, rate_headers(checks, answer))
        if answer[0] == -1:
            raise AdmissionUnavailable("Usage cannot be recorded right now. Try again shortly.")
        check = checks[answer[1] - 1]
        # Rounded up, so that whoever waits for so long is not a moment early.
        retry_after_s = math.ceil(answer[2] / 10) / 100 if answer[2] < NEVER_MS else None
        raise LimitExceeded(
            refusal_message(check, retry_after_s),
            limit=check.name,
            retry_after_s=retry_after_s,
            headers=rate_headers(checks, answer),
        )

    async def settle(self, request_id: str, used_tokens: int, report: bytes) -> bool:
        """End a hold. True when this call ended it; safe to repeat. Raises RedisError."""
        keys = [f"hold:{request_id}", HOLDS, USAGE_STREAM]
        return bool(
            await self._link.run_script(SETTLE, keys, [request_id, max(0, used_tokens), report])
        )

    async def expired_holds(self, now: float, count: int = 500) -> list[ExpiredHold]:
        """Holds that nobody settled in their time, oldest first."""
        due: list[bytes] = await self._link.call(
            "ZRANGEBYSCORE", HOLDS, "-inf", now * 1000, "WITHSCORES", "LIMIT", 0, count
        )
        holds = []
        for raw_id, score in zip(due[::2], due[1::2], strict=True):
            request_id = raw_id.decode()
            note: bytes | None = await self._link.call("HGET", f"hold:{request_id}", "note")
            if note is None:
                await self._link.call("ZREM", HOLDS, raw_id)
            else:
                holds.append(ExpiredHold(request_id, note, float(score) / 1000))
        return holds
