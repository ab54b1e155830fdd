"""The audit trail: one append-only row for each change, in the change's own transaction.

``content`` is the event as canonical JSON, the text that the chain's hashes are
taken over (migration 0004, ``tenants.audit_chain``); the other columns repeat it
for queries.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from django.db import connection
from django.utils import timezone

from tenants import identifiers, scope
from tenants.models import ApiKey, AuditEvent, Organization, User


@dataclass(frozen=True)
class Program:
    """The admin key with which a program acts, and where it calls from."""

    key: ApiKey
    address: str | None


_program: ContextVar[Program | None] = ContextVar("acting_program", default=None)


@contextmanager
def acting_program(key: ApiKey, address: str | None) -> Iterator[None]:
    """Events recorded inside name this key as their actor, if no user is named."""
    token = _program.set(Program(key, address))
    try:
        yield
    finally:
        _program.reset(token)


def current_program() -> Program | None:
    """The program on whose behalf this code runs, if one does."""
    return _program.get()


def acting_key() -> ApiKey | None:
    """The admin key with which a program acts right now."""
    program = _program.get()
    return program.key if program is not None else None


# No RETURNING: the web role may add an event of no organization, but not read one.
_INSERT = """
INSERT INTO tenants_auditevent (
    public_id, at, organization_id, actor_type, acting_user_id, acting_key_id, project_id,
    action, object_type, object_id, before, after, address, content, previous_hash, hash)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, '', '')
"""


def record_event(
    *,
    acting_user: User | None,
    action: str,
    object_type: str,
    object_id: str,
    organization: Organization | None = None,
    project: str = "",
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    address: str | None = None,
) -> None:
    """Call inside the transaction of the change; ``before`` and ``after`` hold no secret.

    ``project`` is a public id. From here to the end of the transaction it holds the row of
    the organization's chain, which lets one transaction at a time add to a chain. So
    that two never wait for each other in a circle, lock the rows that you change before
    the first event, and those of several organizations in the order of their keys.
    """
    program = _program.get() if acting_user is None else None
    event = {
        "id": identifiers.new_audit_event_id(),
        "at": timezone.now().isoformat(),
        "organization": organization.pk if organization is not None else None,
        "actor": _actor_type(acting_user, program),
        "user": acting_user.pk if acting_user is not None else None,
        "key": program.key.pk if program is not None else None,
        "project": project,
        "action": action,
        "object_type": object_type,
        "object_id": object_id,
        "before": before or {},
        "after": after or {},
        "address": stored_address(address or (program.address if program is not None else None)),
    }
    content = canonical(event)
    columns = [canonical(value) if isinstance(value, dict) else value for value in event.values()]
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, [*columns, content])


def stored_address(text: str | None) -> str | None:
    """As PostgreSQL's inet holds it, or None: nothing must fail for a socket's odd name."""
    try:
        return str(ip_address((text or "").partition("%")[0]))
    except ValueError:
        return None


def canonical(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, no escapes that are not needed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _actor_type(user: User | None, program: Program | None) -> str:
    if user is not None:
        is_staff = scope.current().login is scope.Login.STAFF and user.is_staff
        return AuditEvent.Actor.STAFF if is_staff else AuditEvent.Actor.USER
    return AuditEvent.Actor.API_KEY if program is not None else AuditEvent.Actor.SYSTEM
