"""What state a key is in, in words. Pure: ``now`` is given."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.utils.functional import Promise
from django.utils.translation import gettext, gettext_lazy

from tenants.models import ApiKey
from tenants.selectors import EXPIRES_SOON

LABELS: dict[str, Promise] = {
    "live": gettext_lazy("Live"),
    "expiring": gettext_lazy("Expires soon"),
    "rotating": gettext_lazy("Rotating"),
    "suspended": gettext_lazy("Suspended"),
    "expired": gettext_lazy("Expired"),
    "revoked": gettext_lazy("Revoked"),
}


@dataclass(frozen=True)
class KeyStatus:
    name: str
    label: str | Promise
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
        return KeyStatus("revoked", gettext("Revoked"), "bad", is_usable=False)
    if key.expires_at is not None and key.expires_at <= now:
        return KeyStatus("expired", gettext("Expired"), "bad", is_usable=False)
    if key.suspended_at is not None:
        return KeyStatus("suspended", gettext("Suspended"), "warn", is_usable=False)
    if key.project is not None and key.project.archived_at is not None:
        return KeyStatus("archived", gettext("Project archived"), "", is_usable=False)
    if key.previous_expires_at is not None and key.previous_expires_at > now:
        return KeyStatus("rotating", gettext("Rotating"), "warn", until=key.previous_expires_at)
    if key.expires_at is not None and key.expires_at <= now + EXPIRES_SOON:
        return KeyStatus("expiring", gettext("Expires soon"), "warn", until=key.expires_at)
    return KeyStatus("live", gettext("Live"), "good", until=key.expires_at)
