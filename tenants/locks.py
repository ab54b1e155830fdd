"""Row locks, each taken in one place, ordered by primary key."""

from __future__ import annotations

from django.db.models import Q

from tenants.errors import InvalidInput, NotFound
from tenants.models import CustomRole, IdempotentRequest, Membership, Role, ServiceAccount


def lock_member_and_owners(membership: Membership) -> tuple[Membership, list[Membership]]:
    """A member as they are now and the organization's owners, held until the transaction ends.

    Both at once, in the order of their keys: whoever changes a role decides by what it
    is, and no two changes wait for each other in a circle.
    """
    rows = list(
        Membership.objects.select_for_update(of=("self",), no_key=True)
        .filter(Q(role=Role.OWNER) | Q(pk=membership.pk), organization=membership.organization_id)
        .select_related("organization", "user")
        .order_by("pk")
    )
    found = next((row for row in rows if row.pk == membership.pk), None)
    if found is None:
        raise NotFound("No such user.", param="user_id")
    return found, [row for row in rows if row.role == Role.OWNER]


def lock_custom_role(role: CustomRole) -> CustomRole:
    """The role as it is now: what it gives is compared with what the actor has."""
    found = (
        CustomRole.objects.select_for_update(of=("self",), no_key=True)
        .filter(pk=role.pk, organization=role.organization_id)
        .select_related("organization", "project")
        .first()
    )
    if found is None:
        raise NotFound("No such role.", param="role_id")
    return found


def lock_service_account(account: ServiceAccount) -> ServiceAccount:
    """The account, so that no key is made for one that is being deleted."""
    found = (
        ServiceAccount.objects.select_for_update(of=("self",), no_key=True)
        .filter(pk=account.pk, organization=account.organization_id, deleted_at=None)
        .select_related("organization", "project")
        .first()
    )
    if found is None:
        raise InvalidInput("This service account was deleted.", param="service_account_id")
    return found


def lock_idempotent_request(pk: int) -> IdempotentRequest | None:
    """The row, held until the transaction ends; None if another holds it or it is gone."""
    rows = IdempotentRequest.objects.select_for_update(skip_locked=True, of=("self",))
    return rows.filter(pk=pk).first()
