"""Service accounts and their keys on the wire."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, UnsetType

from api.management.key_terms import NewTerms
from api.management.wire import Answer, Body, Seconds, Text, unix
from tenants.models import ApiKey
from tenants.models import ServiceAccount as AccountRow


class ServiceAccountKey(Answer, frozen=True, kw_only=True):
    """``value`` is the secret, shown this once; null in a repeated answer."""

    id: str
    name: str
    created_at: int
    expires_at: int | None
    value: str | None
    object: Literal["organization.project.service_account.api_key"] = (
        "organization.project.service_account.api_key"
    )

    @classmethod
    def of(cls, key: ApiKey, value: str) -> ServiceAccountKey:
        return cls(
            id=key.public_id,
            name=key.name,
            created_at=unix(key.created_at),
            expires_at=unix(key.expires_at),
            value=value,
        )


class ServiceAccount(Answer, frozen=True, kw_only=True):
    id: str
    name: str
    created_at: int
    role: Literal["member"] = "member"
    object: Literal["organization.project.service_account"] = "organization.project.service_account"


class NewServiceAccount(ServiceAccount, frozen=True, kw_only=True):
    api_key: ServiceAccountKey | None


class CreateServiceAccount(Body, frozen=True, kw_only=True):
    name: Text
    create_service_account_only: bool | None = None
    expires_in_seconds: Seconds | None = None


class ServiceAccountChange(Body, frozen=True, kw_only=True):
    name: Text | None = None
    role: Any = None


class CreateServiceAccountKey(NewTerms, frozen=True, kw_only=True):
    name: Text | UnsetType = UNSET


def fields_of(row: AccountRow) -> dict[str, Any]:
    return {"id": row.public_id, "name": row.name, "created_at": unix(row.created_at)}
