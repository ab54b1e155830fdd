"""One request to an endpoint: what is sent, and what came back. No database."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import requests

from tenants import audit
from tenants.models import WebhookEvent
from tenants.outbound import OutboundSession
from tenants.outbound.session import reason_of
from tenants.webhooks import signing

WHOLE_ATTEMPT_S = 15.0
KEPT_ANSWER_BYTES = 1024
USER_AGENT = "Sluice-Webhooks/1"


@dataclass(frozen=True)
class Outcome:
    """``status_code`` is None where no answer came; then ``error`` says why."""

    status_code: int | None
    latency_ms: int
    error: str = ""
    answer: str = ""

    @property
    def is_success(self) -> bool:
        return self.status_code is not None and 200 <= self.status_code < 300


def body_of(event: WebhookEvent) -> bytes:
    """In OpenAI's shape; the same bytes at every attempt."""
    told = {
        "id": event.public_id,
        "object": "event",
        "type": event.type,
        "created_at": int(event.created_at.timestamp()),
        "data": event.data,
    }
    return audit.canonical(told).encode()


def send_event(url: str, secrets: Sequence[str], event: WebhookEvent, now: float) -> Outcome:
    """``now`` in seconds since the epoch, which is signed. Takes at most 15 s."""
    body = body_of(event)
    headers = signing.headers(secrets, event.public_id, int(now), body) | {
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        # What is kept of the answer shall be readable, and nothing is to be unpacked.
        "accept-encoding": "identity",
    }
    session = OutboundSession(whole_s=WHOLE_ATTEMPT_S, largest=KEPT_ANSWER_BYTES, cuts=True)
    began = time.monotonic()
    try:
        response = session.post(url, data=body, headers=headers, allow_redirects=False)
    except requests.RequestException as error:
        return Outcome(None, _since(began), error=reason_of(error)[:200])
    answer = response.content.decode("utf-8", "replace").replace("\0", "�")
    return Outcome(response.status_code, _since(began), answer=answer)


def _since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)
