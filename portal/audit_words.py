"""The audit trail in words: who did what to which object, and what changed. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy, gettext_noop

from portal.room_words import in_words
from tenants.audit_events import actor_of
from tenants.models import AuditEvent

# In the groups in which the filter offers them; an address names the group by its English.
ACTIONS: dict[str, dict[str, Promise]] = {
    gettext_noop("API keys"): {
        "api_key.created": gettext_lazy("Created a key"),
        "api_key.updated": gettext_lazy("Changed a key"),
        "api_key.rotated": gettext_lazy("Rotated a key"),
        "api_key.suspended": gettext_lazy("Suspended a key"),
        "api_key.restored": gettext_lazy("Restored a key"),
        "api_key.revoked": gettext_lazy("Revoked a key"),
        "api_key.used_from_new_address": gettext_lazy("Key used from a new address"),
        "api_key.expiry_warned": gettext_lazy("Warned of a key that expires"),
    },
    gettext_noop("Members"): {
        "member.added": gettext_lazy("Member joined"),
        "member.changed": gettext_lazy("Changed a member’s role"),
        "member.removed": gettext_lazy("Removed a member"),
        "invite.sent": gettext_lazy("Invited somebody"),
        "invite.accepted": gettext_lazy("Accepted an invitation"),
        "invite.deleted": gettext_lazy("Withdrew an invitation"),
    },
    gettext_noop("Groups and roles"): {
        "group.created": gettext_lazy("Created a group"),
        "group.updated": gettext_lazy("Renamed a group"),
        "group.deleted": gettext_lazy("Deleted a group"),
        "group_member.added": gettext_lazy("Added to a group"),
        "group_member.removed": gettext_lazy("Removed from a group"),
        "role.created": gettext_lazy("Created a role"),
        "role.updated": gettext_lazy("Changed a role"),
        "role.deleted": gettext_lazy("Deleted a role"),
        "role.assigned": gettext_lazy("Gave a role"),
        "role.unassigned": gettext_lazy("Took a role away"),
    },
    gettext_noop("Projects"): {
        "project.created": gettext_lazy("Created a project"),
        "project.updated": gettext_lazy("Changed a project"),
        "project.archived": gettext_lazy("Archived a project"),
        "rate_limit.updated": gettext_lazy("Changed a model’s limits"),
        "project_member.added": gettext_lazy("Added a project member"),
        "project_member.changed": gettext_lazy("Changed a project member’s role"),
        "project_member.removed": gettext_lazy("Removed a project member"),
        "service_account.created": gettext_lazy("Created a service account"),
        "service_account.updated": gettext_lazy("Renamed a service account"),
        "service_account.deleted": gettext_lazy("Deleted a service account"),
    },
    gettext_noop("Organization"): {
        "organization.created": gettext_lazy("Created the organization"),
        "organization.updated": gettext_lazy("Changed settings"),
        "response_cache.cleared": gettext_lazy("Forgot cached answers"),
        "organization.suspended": gettext_lazy("Suspended the organization"),
        "organization.restored": gettext_lazy("Restored the organization"),
        "export.requested": gettext_lazy("Asked for an export"),
        "file.created": gettext_lazy("Stored a file"),
        "file.deleted": gettext_lazy("Deleted a file"),
        "batch.created": gettext_lazy("Started a batch"),
        "batch.cancelled": gettext_lazy("Cancelled a batch"),
        "answer.updated": gettext_lazy("Relabelled a kept answer"),
        "answer.deleted": gettext_lazy("Deleted a kept answer"),
        "answer.cancelled": gettext_lazy("Cancelled a background response"),
        "job.cancelled": gettext_lazy("Cancelled a job"),
        "job.retried": gettext_lazy("Tried a job again"),
        "sso.created": gettext_lazy("Added single sign-on"),
        "sso.updated": gettext_lazy("Changed single sign-on"),
        "sso.deleted": gettext_lazy("Removed single sign-on"),
        "sso.domains_verified": gettext_lazy("Verified domains"),
        "spend_alert.created": gettext_lazy("Added a spend alert"),
        "spend_alert.updated": gettext_lazy("Changed a spend alert"),
        "spend_alert.deleted": gettext_lazy("Removed a spend alert"),
        "webhook.created": gettext_lazy("Added a webhook"),
        "webhook.updated": gettext_lazy("Changed a webhook"),
        "webhook.secret_rotated": gettext_lazy("Rotated a webhook’s secret"),
        "webhook.deleted": gettext_lazy("Removed a webhook"),
        "webhook.tested": gettext_lazy("Sent a test event"),
        "webhook.replayed": gettext_lazy("Sent an event again"),
        "webhook.disabled_by_failures": gettext_lazy("Webhook disabled: it kept failing"),
    },
    gettext_noop("Staff"): {
        "staff.viewed": gettext_lazy("Staff looked at data in the staff admin"),
        "staff.look_began": gettext_lazy("Staff began to look at the portal"),
        "staff.looked": gettext_lazy("Staff looked at a page"),
        "staff.look_ended": gettext_lazy("Staff ended their look"),
    },
    gettext_noop("Accounts"): {
        "login.succeeded": gettext_lazy("Logged in"),
        "login.failed": gettext_lazy("Log-in failed"),
        "logout.succeeded": gettext_lazy("Logged out"),
        "session.ended": gettext_lazy("Ended a session"),
        "password.changed": gettext_lazy("Changed the password"),
        "password.set": gettext_lazy("Set a password"),
        "password.reset": gettext_lazy("Reset the password"),
        "email.changed": gettext_lazy("Changed the e-mail address"),
        "email.added": gettext_lazy("Added an e-mail address"),
        "email.removed": gettext_lazy("Removed an e-mail address"),
        "second_factor.added": gettext_lazy("Set up an authenticator app"),
        "second_factor.removed": gettext_lazy("Removed an authenticator app"),
        "second_factor.failed": gettext_lazy("Second factor failed"),
        "passkey.added": gettext_lazy("Added a passkey"),
        "profile.changed": gettext_lazy("Changed their name"),
        "passkey.removed": gettext_lazy("Removed a passkey"),
        "recovery_codes.created": gettext_lazy("Made recovery codes"),
        "recovery_codes.removed": gettext_lazy("Removed recovery codes"),
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
_KINDS = {
    "api_key": gettext_lazy("API key"),
    "user": gettext_lazy("person"),
    "invite": gettext_lazy("invitation"),
    "project": gettext_lazy("project"),
    "group": gettext_lazy("group"),
    "role": gettext_lazy("role"),
    "organization": gettext_lazy("organization"),
    "service_account": gettext_lazy("service account"),
    "webhook": gettext_lazy("webhook"),
    "file": gettext_lazy("file"),
    "batch": gettext_lazy("batch"),
    "job": gettext_lazy("job"),
}


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
        actor=_actor(event),
        object_type=str(_KINDS.get(event.object_type, event.object_type.replace("_", " "))),
        object_name=_own_name(event) or names.get(event.object_id, ""),
        object_url=reverse(page, args=[organization_id, event.object_id]) if has_page else "",
        changes=changes(event.before, event.after),
    )


def _actor(event: AuditEvent) -> str:
    identity, name = actor_of(event)
    return name if identity else in_words(name)  # a person may be called “Staff” too


def words_for(action: str) -> str:
    """An action that this page does not know yet is told by its code."""
    words = _WORDS.get(action)
    return str(words) if words else action.replace("_", " ").replace(".", ": ")


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
