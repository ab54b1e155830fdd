"""Programs of a project, whose keys outlive the people who made them."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from tenants import audit
from tenants.actions.keys import KeyTerms, create_api_key
from tenants.actions.names import checked_name
from tenants.actions.notices import notify_change
from tenants.models import ApiKey, Project, ServiceAccount, User


@transaction.atomic
def create_service_account(
    project: Project, name: str, *, acting_user: User | None, address: str | None = None
) -> ServiceAccount:
    account = ServiceAccount.objects.create(
        organization=project.organization, project=project, name=checked_name(name)
    )
    audit.record_event(
        acting_user=acting_user,
        action="service_account.created",
        object_type="service_account",
        object_id=account.public_id,
        organization=project.organization,
        project=project.public_id,
        after={"name": account.name},
        address=address,
    )
    return account


def key_name_of(account: ServiceAccount) -> str:
    """What a key is called that nobody named."""
    return f"Key of {account.name}"[:120]


@transaction.atomic
def create_service_account_with_key(
    project: Project,
    name: str,
    *,
    terms: KeyTerms | None = None,
    acting_user: User | None,
    address: str | None = None,
) -> tuple[ServiceAccount, ApiKey, str]:
    """An account, its first key and that key's secret, which nothing can show again."""
    account = create_service_account(project, name, acting_user=acting_user, address=address)
    key, secret = create_api_key(
        account, key_name_of(account), acting_user=acting_user, terms=terms, address=address
    )
    return account, key, secret


@transaction.atomic
def rename_service_account(
    account: ServiceAccount, name: str, *, acting_user: User | None, address: str | None = None
) -> ServiceAccount:
    before, account.name = {"name": account.name}, checked_name(name)
    account.save(update_fields=["name"])
    audit.record_event(
        acting_user=acting_user,
        action="service_account.updated",
        object_type="service_account",
        object_id=account.public_id,
        organization=account.organization,
        project=account.project.public_id,
        before=before,
        after={"name": account.name},
        address=address,
    )
    return account


@transaction.atomic
def delete_service_account(
    account: ServiceAccount, *, acting_user: User | None, address: str | None = None
) -> ServiceAccount:
    """Revoke its keys and hide it; what it used stays on record. Twice is once."""
    now = timezone.now()
    deleted = ServiceAccount.objects.filter(pk=account.pk, deleted_at=None).update(deleted_at=now)
    revoked = ApiKey.objects.filter(service_account=account, revoked_at=None).update(revoked_at=now)
    account.refresh_from_db()
    if deleted:
        audit.record_event(
            acting_user=acting_user,
            action="service_account.deleted",
            object_type="service_account",
            object_id=account.public_id,
            organization=account.organization,
            project=account.project.public_id,
            before={"name": account.name},
            after={"revoked_keys": revoked},
            address=address,
        )
    notify_change(account.organization_id)
    return account
