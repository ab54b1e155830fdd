"""Admin keys on the wire."""

from __future__ import annotations

from typing import Any, Literal

from api.management.key_terms import NewTerms, Terms, redacted, shown_terms
from api.management.wire import Answer, Text, unix
from tenants.models import ApiKey


class AdminKeyOwner(Answer, frozen=True, kw_only=True):
    """The person who made the key, or whose key made it; empty if they are gone."""

    id: str | None
    name: str | None
    created_at: int | None
    role: str | None
    object: Literal["organization.user"] = "organization.user"
    type: Literal["user"] = "user"

    @classmethod
    def of(cls, key: Any) -> AdminKeyOwner:
        user = key.created_by if key.is_member else None
        return cls(
            id=user and user.public_id,
            name=user and (user.name or user.email),
            created_at=user and unix(user.date_joined),
            role=key.owner_role,
        )


class AdminApiKey(Terms, frozen=True, kw_only=True):
    id: str
    name: str
    created_at: int
    expires_at: int | None
    last_used_at: int | None
    redacted_value: str
    owner: AdminKeyOwner
    object: Literal["organization.admin_api_key"] = "organization.admin_api_key"


class NewAdminApiKey(AdminApiKey, frozen=True, kw_only=True):
    """``value`` is the secret, shown this once; null in a repeated answer."""

    value: str | None


class AdminKeyTerms(NewTerms, frozen=True, kw_only=True):
    """``scopes`` are permissions."""


class CreateAdminKey(NewTerms, frozen=True, kw_only=True):
    """``scopes`` are permissions; left out, they are those of the key that asks."""

    name: Text


def admin_key(key: ApiKey, value: str | None = None) -> AdminApiKey:
    fields: dict[str, Any] = {
        "id": key.public_id,
        "name": key.name,
        "created_at": unix(key.created_at),
        "expires_at": unix(key.expires_at),
        "last_used_at": unix(key.last_used_at),
        "redacted_value": redacted(key),
        "owner": AdminKeyOwner.of(key),
        **shown_terms(key),
    }
    return AdminApiKey(**fields) if value is None else NewAdminApiKey(**fields, value=value)
