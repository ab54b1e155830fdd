"""Signatures of the Standard Webhooks scheme, which OpenAI's clients verify. Pure.

A secret is ``whsec_`` and 24 to 64 random bytes in base64. Signed is
``<webhook-id>.<webhook-timestamp>.<body>``; ``webhook-signature`` holds one ``v1,<base64>``
for each secret that is good, so that a receiver may change its own at leisure.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable

PREFIX = "whsec_"
SECRET_BYTES = 32


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """``timestamp`` in seconds; receivers refuse one that is five minutes off."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def headers(
    secrets_: Iterable[str], message_id: str, timestamp: int, body: bytes
) -> dict[str, str]:
    signatures = [signature(secret, message_id, timestamp, body) for secret in secrets_]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }
