"""The audit trail: one append-only row for each change, in the change's own transaction."""

from __future__ import annotations

from typing import Any

from tenants.models import AuditEvent, Organization, User


def record_event(
    *,
    acting_user: User | None,
    action: str,
    object_type: str,
    object_id: str,
    organization: Organization | None = None,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    address: str | None = None,
) -> AuditEvent:
    """Call inside the transaction of the change; ``before`` and ``after`` hold no secret."""
    return AuditEvent.objects.create(
        acting_user=acting_user,
        action=action,
        object_type=object_type,
        object_id=object_id,
        organization=organization,
        before=before or {},
        after=after or {},
        address=address,
    )
