"""What state a key is in, in words. Pure: ``now`` is given."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tenants.models import ApiKey
from tenants.selectors import EXPIRES_SOON

LABELS = {
    "live": "Live",
    "expiring": "Expires soon",
    "rotating": "Rotating",
    "suspended": "Suspended",
    "expired": "Expired",
    "revoked": "Revoked",
}


@dataclass(frozen=True)
class KeyStatus:
    name: str
    label: str
    tone: str  # a badge's class
    until: datetime | None = None  # when what the label says ends
    is_usable: bool = True

    @property
    def can_change(self) -> bool:
        """Whether there is anything left to edit, rotate or revoke."""
        return self.name != "revoked"


def status_of(key: ApiKey, now: datetime) -> KeyStatus:
    """The most important thing to know: what stops the key, then what will."""
    if key.revoked_at is not None:
        return KeyStatus("revoked", "Revoked", "bad", is_usable=False)
    if key.expires_at is not None and key.expires_at <= now:
        return KeyStatus("expired", "Expired", "bad", is_usable=False)
    if key.suspended_at is not None:
        return KeyStatus("suspended", "Suspended", "warn", is_usable=False)
    if key.project is not None and key.project.archived_at is not None:
        return KeyStatus("archived", "Project archived", "", is_usable=False)
    if key.previous_expires_at is not None and key.previous_expires_at > now:
        return KeyStatus("rotating", "Rotating", "warn", until=key.previous_expires_at)
    if key.expires_at is not None and key.expires_at <= now + EXPIRES_SOON:
        return KeyStatus("expiring", "Expires soon", "warn", until=key.expires_at)
    return KeyStatus("live", "Live", "good", until=key.expires_at)
