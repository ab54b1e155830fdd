"""The audit log on the wire."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from api.management.audit_logs.events import actions_of, details_of, type_of
from api.management.wire import MOST_FILTERED, Answer, Body, Id, Text, unix
from tenants.audit_events import AuditFilters
from tenants.models import AuditEvent
from tenants.pages import Cursor

# To the year 9999, which is the last that a date can have.
Moment = Annotated[int, Meta(ge=0, le=253_402_300_000)]
Texts = Annotated[list[Text], Meta(max_length=MOST_FILTERED)]
Ids = Annotated[list[Id], Meta(max_length=MOST_FILTERED)]


class EffectiveAt(Body, frozen=True, kw_only=True):
    """Unix seconds."""

    gt: Moment | None = None
    gte: Moment | None = None
    lt: Moment | None = None
    lte: Moment | None = None


class AuditQuery(Body, frozen=True, kw_only=True):
    after: Id | None = None
    before: Id | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    effective_at: EffectiveAt | None = None
    project_ids: Ids = []
    event_types: Texts = []
    actor_ids: Ids = []
    actor_emails: Texts = []
    resource_ids: Texts = []
    tenant_only: bool = False

    @property
    def cursor(self) -> Cursor:
        return Cursor(self.limit, after=self.after, before=self.before, is_descending=True)

    @property
    def filters(self) -> AuditFilters:
        at = self.effective_at or EffectiveAt()
        # An event of 12:00:00.5 is told as 12:00:00, so a whole second counts as one.
        lower = [at.gte, None if at.gt is None else at.gt + 1]
        upper = [at.lt, None if at.lte is None else at.lte + 1]
        since = max((moment for moment in lower if moment is not None), default=None)
        until = min((moment for moment in upper if moment is not None), default=None)
        return AuditFilters(
            actions=tuple(action for kind in self.event_types for action in actions_of(kind)),
            projects=tuple(self.project_ids),
            object_ids=tuple(self.resource_ids),
            actor_ids=tuple(self.actor_ids),
            actor_emails=tuple(self.actor_emails),
            since=None if since is None else datetime.fromtimestamp(since, UTC),
            until=None if until is None else datetime.fromtimestamp(until, UTC),
        )


class ActingUser(Answer, frozen=True, kw_only=True):
    id: str
    email: str


class Session(Answer, frozen=True, kw_only=True):
    user: ActingUser | None
    ip_address: str | None


class ActingKey(Answer, frozen=True, kw_only=True):
    """``user`` is who made the key; where it was used from is beside it."""

    id: str
    user: ActingUser | None
    ip_address: str | None
    type: Literal["user"] = "user"


class Actor(Answer, frozen=True, kw_only=True):
    """``staff`` and ``system`` are ours: staff are not told by name."""

    type: Literal["session", "api_key", "staff", "system"]
    session: Session | None = None
    api_key: ActingKey | None = None


class EventProject(Answer, frozen=True, kw_only=True):
    id: str
    name: str | None


class AuditLog(Answer, frozen=True, kw_only=True):
    """Beside these, a field with the name of ``type`` holds the event's details."""

    id: str
    type: str
    effective_at: int
    actor: Actor
    project: EventProject | None
    object: Literal["organization.audit_log"] = "organization.audit_log"


def audit_log(event: Any) -> dict[str, Any]:
    """``event`` is one of ``listings.audit_log``."""
    kind = type_of(event.action)
    project = EventProject(id=event.project_id, name=event.project_name)
    shown = AuditLog(
        id=event.public_id,
        type=kind,
        effective_at=unix(event.at),
        actor=_actor(event),
        project=project if event.project_id else None,
    )
    details = details_of(event.action, event.object_id, event.before, event.after)
    return {**msgspec.structs.asdict(shown), kind: details}


def _actor(event: AuditEvent) -> Actor:
    if event.actor_type == AuditEvent.Actor.STAFF:
        return Actor(type="staff")
    if event.acting_key is not None:
        return Actor(
            type="api_key",
            api_key=ActingKey(
                id=event.acting_key.public_id,
                user=_user(event.acting_key.created_by),
                ip_address=event.address,
            ),
        )
    if event.acting_user is None:
        return Actor(type="system")
    return Actor(
        type="session", session=Session(user=_user(event.acting_user), ip_address=event.address)
    )


def _user(user: Any) -> ActingUser | None:
    return None if user is None else ActingUser(id=user.public_id, email=user.email)
