"""Invitations on the wire."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from api.management.users.wire import shown_role
from api.management.wire import Answer, Body, Id, Text, unix
from tenants.models import Invitation


class InvitedProject(Answer, frozen=True, kw_only=True):
    id: str
    role: str


class Invite(Answer, frozen=True, kw_only=True):
    """``role`` as of a user."""

    id: str
    email: str
    role: str
    status: Literal["pending", "accepted", "expired", "revoked"]
    projects: list[InvitedProject]
    created_at: int
    expires_at: int
    accepted_at: int | None
    object: Literal["organization.invite"] = "organization.invite"

    @classmethod
    def of(cls, row: Invitation) -> Invite:
        return cls(
            id=row.public_id,
            email=row.email,
            role=shown_role(row.role),
            status=row.status,  # type: ignore[arg-type]
            projects=[InvitedProject(id=p["id"], role=p["role"]) for p in row.projects],
            created_at=unix(row.created_at),
            expires_at=unix(row.expires_at),
            accepted_at=unix(row.accepted_at),
        )


class NewInvitedProject(Body, frozen=True, kw_only=True):
    id: Id
    role: Text


class NewInvite(Body, frozen=True, kw_only=True):
    email: Text
    role: Text
    projects: Annotated[list[NewInvitedProject], Meta(max_length=50)] = []
