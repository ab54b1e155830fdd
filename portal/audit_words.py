"""The audit trail in words: who did what to which object, and what changed. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.urls import reverse

from tenants.audit_events import actor_of
from tenants.models import AuditEvent

# In the groups in which the filter offers them.
ACTIONS: dict[str, dict[str, str]] = {
    "API keys": {
        "api_key.created": "Created a key",
        "api_key.updated": "Changed a key",
        "api_key.rotated": "Rotated a key",
        "api_key.suspended": "Suspended a key",
        "api_key.restored": "Restored a key",
        "api_key.revoked": "Revoked a key",
        "api_key.used_from_new_address": "Key used from a new address",
        "api_key.expiry_warned": "Warned of a key that expires",
    },
    "Members": {
        "member.added": "Member joined",
        "member.changed": "Changed a member’s role",
        "member.removed": "Removed a member",
        "invite.sent": "Invited somebody",
        "invite.accepted": "Accepted an invitation",
        "invite.deleted": "Withdrew an invitation",
    },
    "Groups and roles": {
        "group.created": "Created a group",
        "group.updated": "Renamed a group",
        "group.deleted": "Deleted a group",
        "group_member.added": "Added to a group",
        "group_member.removed": "Removed from a group",
        "role.created": "Created a role",
        "role.updated": "Changed a role",
        "role.deleted": "Deleted a role",
        "role.assigned": "Gave a role",
        "role.unassigned": "Took a role away",
    },
    "Projects": {
        "project.created": "Created a project",
        "project.updated": "Changed a project",
        "project.archived": "Archived a project",
        "rate_limit.updated": "Changed a model’s limits",
        "project_member.added": "Added a project member",
        "project_member.changed": "Changed a project member’s role",
        "project_member.removed": "Removed a project member",
        "service_account.created": "Created a service account",
        "service_account.updated": "Renamed a service account",
        "service_account.deleted": "Deleted a service account",
    },
    "Organization": {
        "organization.created": "Created the organization",
        "organization.updated": "Changed settings",
        "response_cache.cleared": "Forgot cached answers",
        "organization.suspended": "Suspended the organization",
        "organization.restored": "Restored the organization",
        "export.requested": "Asked for an export",
        "file.created": "Stored a file",
        "file.deleted": "Deleted a file",
        "batch.created": "Started a batch",
        "batch.cancelled": "Cancelled a batch",
        "answer.updated": "Relabelled a kept answer",
        "answer.deleted": "Deleted a kept answer",
        "answer.cancelled": "Cancelled a background response",
        "job.cancelled": "Cancelled a job",
        "job.retried": "Tried a job again",
        "sso.created": "Added single sign-on",
        "sso.updated": "Changed single sign-on",
        "sso.deleted": "Removed single sign-on",
        "sso.domains_verified": "Verified domains",
        "spend_alert.created": "Added a spend alert",
        "spend_alert.updated": "Changed a spend alert",
        "spend_alert.deleted": "Removed a spend alert",
        "webhook.created": "Added a webhook",
        "webhook.updated": "Changed a webhook",
        "webhook.secret_rotated": "Rotated a webhook’s secret",
        "webhook.deleted": "Removed a webhook",
        "webhook.tested": "Sent a test event",
        "webhook.replayed": "Sent an event again",
        "webhook.disabled_by_failures": "Webhook disabled: it kept failing",
    },
    "Staff": {
        "staff.viewed": "Staff looked at data in the staff admin",
        "staff.look_began": "Staff began to look at the portal",
        "staff.looked": "Staff looked at a page",
        "staff.look_ended": "Staff ended their look",
    },
    "Accounts": {
        "login.succeeded": "Logged in",
        "login.failed": "Log-in failed",
        "logout.succeeded": "Logged out",
        "session.ended": "Ended a session",
        "password.changed": "Changed the password",
        "password.set": "Set a password",
        "password.reset": "Reset the password",
        "email.changed": "Changed the e-mail address",
        "email.added": "Added an e-mail address",
        "email.removed": "Removed an e-mail address",
        "second_factor.added": "Set up an authenticator app",
        "second_factor.removed": "Removed an authenticator app",
        "second_factor.failed": "Second factor failed",
        "passkey.added": "Added a passkey",
        "profile.changed": "Changed their name",
        "passkey.removed": "Removed a passkey",
        "recovery_codes.created": "Made recovery codes",
        "recovery_codes.removed": "Removed recovery codes",
    },
}
_WORDS = {action: words for group in ACTIONS.values() for action, words in group.items()}

# Objects with a page: its address's name. Pages of a deleted object are absent.
_PAGES = {
    "api_key": "key",
    "project": "project",
    "user": "member",
    "group": "group",
    "role": "role",
}
_NAMES = ("name", "email")
_KINDS = {"api_key": "API key", "user": "person", "invite": "invitation"}


@dataclass(frozen=True)
class Change:
    field: str
    before: str
    after: str


@dataclass(frozen=True)
class AuditLine:
    event: AuditEvent
    action: str
    actor: str
    object_type: str
    object_name: str
    object_url: str
    changes: tuple[Change, ...]


def describe(event: AuditEvent, organization_id: str, names: Mapping[str, str]) -> AuditLine:
    """``names`` are those of today; an event that tells its object's name is believed first."""
    page = _PAGES.get(event.object_type)
    has_page = page is not None and event.object_id and not event.action.endswith(".deleted")
    return AuditLine(
        event=event,
        action=words_for(event.action),
        actor=actor_of(event)[1],
        object_type=_KINDS.get(event.object_type, event.object_type.replace("_", " ")),
        object_name=_own_name(event) or names.get(event.object_id, ""),
        object_url=reverse(page, args=[organization_id, event.object_id]) if has_page else "",
        changes=changes(event.before, event.after),
    )


def words_for(action: str) -> str:
    """An action that this page does not know yet is told by its code."""
    return _WORDS.get(action, action.replace("_", " ").replace(".", ": "))


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
    """Each field once, those that stayed the same left out."""
    fields = list(dict.fromkeys([*before, *after]))
    found = (Change(name, _text(before.get(name)), _text(after.get(name))) for name in fields)
    return tuple(change for change in found if change.before != change.after)


def _own_name(event: AuditEvent) -> str:
    """Only of events about the object itself: a passkey's name is not its owner's."""
    if event.object_type == "user" and not event.action.startswith("member."):
        return ""
    told = (*_names(event.after), *_names(event.before))
    return next(iter(told), "")


def _names(told: Mapping[str, Any]) -> list[str]:
    return [str(told[name]) for name in _NAMES if told.get(name)]


def _text(value: Any) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
