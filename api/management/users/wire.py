"""Members on the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from api.management.wire import MOST_FILTERED, Answer, Body, Id, ListQuery, Text, unix
from tenants.models import Membership, Role

# OpenAI's name of the role that may only look.
READER = "reader"


class Details(Answer, frozen=True, kw_only=True):
    id: str
    email: str
    name: str
    enabled: bool
    object: Literal["user"] = "user"


class User(Answer, frozen=True, kw_only=True):
    """``role`` is owner, admin, billing, developer, or reader: the portal's viewer."""

    id: str
    name: str
    email: str
    role: str
    added_at: int
    created: int
    user: Details
    is_service_account: bool = False
    is_scim_managed: bool = False
    object: Literal["organization.user"] = "organization.user"

    @classmethod
    def of(cls, membership: Membership) -> User:
        user = membership.user
        return cls(
            id=user.public_id,
            name=user.name,
            email=user.email,
            role=shown_role(membership.role),
            added_at=unix(membership.created_at),
            created=unix(user.date_joined),
            user=Details(
                id=user.public_id, email=user.email, name=user.name, enabled=user.is_active
            ),
        )


class UserQuery(ListQuery, frozen=True, kw_only=True):
    emails: Annotated[list[Text], Meta(max_length=MOST_FILTERED)] = []


class UserChange(Body, frozen=True, kw_only=True):
    """Either ``role``, or ``role_id``: a custom role to give beside it."""

    role: Text | None = None
    role_id: Id | None = None
    developer_persona: Any = None
    technical_level: Any = None


def shown_role(role: str) -> str:
    return READER if role == Role.VIEWER else role


def role_named(name: str) -> str:
    return Role.VIEWER.value if name == READER else name
