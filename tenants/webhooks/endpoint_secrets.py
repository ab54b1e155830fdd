"""An endpoint's secrets: encrypted where they lie, read only to sign."""

from __future__ import annotations

from datetime import datetime

from tenants.encryption import decrypt, encrypt
from tenants.models import WebhookEndpoint

PURPOSE = "webhook-signing"


def seal(secret: str) -> bytes:
    return encrypt(secret, purpose=PURPOSE)


def live_secrets(endpoint: WebhookEndpoint, now: datetime) -> list[str]:
    """The one in force, and the one before it until its overlap ends."""
    stored = [endpoint.secret_encrypted]
    until = endpoint.previous_expires_at
    if endpoint.previous_secret_encrypted is not None and until is not None and now < until:
        stored.append(endpoint.previous_secret_encrypted)
    return [decrypt(secret, purpose=PURPOSE) for secret in stored]
