"""The places of an organization's navigation: one row each, shown to whoever may go there.

A page's ``tab`` names its place. The sidebar, the command palette and the test of access
read this table, so a new page is one row here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from portal.reach import reach_of
from tenants import access
from tenants.models import Membership


@dataclass(frozen=True)
class Place:
    tab: str
    label: str | Promise
    icon: str  # lucide's name
    url_name: str
    permission: str = ""  # none: every member
    in_some_projects: bool = False  # enough to have the permission in one project
    words: str | Promise = ""  # what else somebody may search it by


@dataclass(frozen=True)
class Group:
    label: str | Promise
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Link:
    label: str | Promise
    icon: str
    url: str
    is_current: bool = False
    words: str | Promise = ""


@dataclass(frozen=True)
class LinkGroup:
    label: str | Promise
    links: tuple[Link, ...]


GROUPS = (
    Group(
        "",
        (Place("overview", _("Overview"), "house", "overview", words=_("home start")),),
    ),
    Group(
        _("Build"),
        (
            Place(
                "playground",
                _("Playground"),
                "square-terminal",
                "playground",
                "key.create",
                True,
                _("chat completion embeddings compare models try"),
            ),
            Place(
                "models",
                _("Models"),
                "box",
                "models",
                words=_("catalogue prices context capabilities latency status"),
            ),
            Place("keys", _("API keys"), "key-round", "keys", "key.read", True, _("secret token")),
            Place(
                "batches",
                _("Batches"),
                "layers",
                "batches",
                "key.read",
                True,
                _("files requests upload jsonl"),
            ),
            Place("projects", _("Projects"), "folder", "projects", "project.read", True),
        ),
    ),
    Group(
        _("Observe"),
        (Place("usage", _("Usage"), "chart-column", "usage", words=_("tokens cost requests")),),
    ),
    Group(
        _("Organization"),
        (
            Place("members", _("Members"), "users", "members", "member.read"),
            Place("audit", _("Audit log"), "scroll-text", "audit", "audit.read", words=_("trail")),
            Place("settings", _("Settings"), "settings", "settings", words=_("plan limits")),
        ),
    ),
)

# What has no place in the sidebar and is found by the command palette: actions and sub-pages.
ELSEWHERE = (
    Place("", _("Create an API key"), "plus", "key_create", "key.create", True),
    Place("", _("Create a project"), "plus", "project_create", "project.create"),
    Place("", _("Files"), "files", "files", "key.read", True, _("upload download jsonl results")),
    Place("", _("Upload a file"), "upload", "file_upload", "key.create", True),
    Place("", _("Create a batch"), "plus", "batch_create", "key.create", True),
    Place("", _("Requests"), "list", "requests", words=_("request ID search export CSV")),
    Place("", _("Limits"), "gauge", "limits", words=_("rate quota budget")),
    Place("", _("Invite somebody"), "user-plus", "invite", "member.manage"),
    Place("", _("Groups"), "users", "groups", "member.read"),
    Place("", _("Roles"), "shield", "roles", "member.read", words=_("permissions")),
    Place("", _("Caching"), "database-zap", "caching", "organization.update"),
    Place("", _("Admin keys"), "key-square", "admin_keys", "admin_key.manage"),
    Place("", _("Webhooks"), "webhook", "webhooks", "webhook.manage", words=_("events hooks")),
    Place("", _("Single sign-on"), "log-in", "providers", "sso.manage", words="SSO SAML OIDC"),
)


def may_go(membership: Membership, place: Place) -> bool:
    if not place.permission:
        return True
    if place.in_some_projects:
        return bool(reach_of(membership, place.permission))
    return access.is_allowed(membership, place.permission)


def links_of(membership: Membership, tab: str) -> list[LinkGroup]:
    """The sidebar: groups without a place for this member are left out."""
    shown = [
        LinkGroup(group.label, tuple(_links(membership, group.places, tab))) for group in GROUPS
    ]
    return [group for group in shown if group.links]


def everything(membership: Membership) -> list[Link]:
    """Every page and action that this member may search for."""
    places = [place for group in GROUPS for place in group.places]
    return list(_links(membership, (*places, *ELSEWHERE), ""))


def _links(membership: Membership, places: tuple[Place, ...], tab: str) -> Iterator[Link]:
    identity = membership.organization.public_id
    for place in places:
        if may_go(membership, place):
            yield Link(
                label=place.label,
                icon=place.icon,
                url=reverse(place.url_name, args=[identity]),
                is_current=bool(tab) and place.tab == tab,
                words=place.words,
            )
