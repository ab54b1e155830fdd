"""Row locks, each taken in one place, ordered by primary key."""

from __future__ import annotations

from tenants.models import Membership, Role


def lock_owners(organization: int) -> list[Membership]:
    """The organization's owners, held until the transaction ends."""
    return list(
        Membership.objects.select_for_update()
        .filter(organization=organization, role=Role.OWNER)
        .order_by("pk")
    )
