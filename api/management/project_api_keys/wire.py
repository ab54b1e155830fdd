"""Keys of projects on the wire."""

from __future__ import annotations

from typing import Any, Literal

from api.management.key_terms import NewTerms, Terms, redacted, shown_terms
from api.management.wire import Answer, ListQuery, Text, unix
from tenants.models import ApiKey


class OwningUser(Answer, frozen=True, kw_only=True):
    id: str
    name: str
    email: str
    created_at: int
    role: str | None


class OwningAccount(Answer, frozen=True, kw_only=True):
    id: str
    name: str
    created_at: int
    role: str = "member"


class KeyOwner(Answer, frozen=True, kw_only=True):
    """Both null if the person who made the key is gone."""

    type: Literal["user", "service_account"]
    user: OwningUser | None = None
    service_account: OwningAccount | None = None

    @classmethod
    def of(cls, key: Any) -> KeyOwner:
        if account := key.service_account:
            shown = OwningAccount(
                id=account.public_id, name=account.name, created_at=unix(account.created_at)
            )
            return cls(type="service_account", service_account=shown)
        user = key.created_by if key.is_member else None
        if user is None:
            return cls(type="user")
        return cls(
            type="user",
            user=OwningUser(
                id=user.public_id,
                name=user.name,
                email=user.email,
                created_at=unix(user.date_joined),
                role=key.owner_role,
            ),
        )


class ProjectApiKey(Terms, frozen=True, kw_only=True):
    id: str
    name: str
    created_at: int
    expires_at: int | None
    last_used_at: int | None
    redacted_value: str
    owner: KeyOwner
    owner_project_access: Literal["active", "inactive"]
    object: Literal["organization.project.api_key"] = "organization.project.api_key"


class NewProjectApiKey(ProjectApiKey, frozen=True, kw_only=True):
    """``value`` is the secret, shown this once; null in a repeated answer."""

    value: str | None


class CreateProjectKey(NewTerms, frozen=True, kw_only=True):
    name: Text


class ProjectKeyQuery(ListQuery, frozen=True, kw_only=True):
    owner_project_access: Literal["active", "inactive", "any"] = "any"


def project_key(key: Any, value: str | None = None) -> ProjectApiKey:
    fields: dict[str, Any] = {
        "id": key.public_id,
        "name": key.name,
        "created_at": unix(key.created_at),
        "expires_at": unix(key.expires_at),
        "last_used_at": unix(key.last_used_at),
        "redacted_value": redacted(key),
        "owner": KeyOwner.of(key),
        "owner_project_access": "active" if is_owned(key) else "inactive",
        **shown_terms(key),
    }
    return ProjectApiKey(**fields) if value is None else NewProjectApiKey(**fields, value=value)


def is_owned(key: Any) -> bool:
    return key.kind == ApiKey.Kind.SERVICE_ACCOUNT or bool(key.is_member)
