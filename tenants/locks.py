"""Row locks, each taken in one place, ordered by primary key."""

from __future__ import annotations

from tenants.models import IdempotentRequest, Membership, Role


def lock_owners(organization: int) -> list[Membership]:
    """The organization's owners, held until the transaction ends."""
    return list(
        Membership.objects.select_for_update()
        .filter(organization=organization, role=Role.OWNER)
        .order_by("pk")
    )


def lock_idempotent_request(pk: int) -> IdempotentRequest | None:
    """The row, held until the transaction ends; None if another holds it or it is gone."""
    rows = IdempotentRequest.objects.select_for_update(skip_locked=True, of=("self",))
    return rows.filter(pk=pk).first()
