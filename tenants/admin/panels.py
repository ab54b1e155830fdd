"""What belongs to an organization, for its one page: the first rows and a way to the rest.

Each panel is a bounded read of an index. Rooms above add their own with ``register``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Model, QuerySet
from django.urls import reverse

from tenants import audit_events
from tenants.models import (
    ApiKey,
    CustomRole,
    Group,
    IdentityProvider,
    Invitation,
    Membership,
    Organization,
    Project,
    ServiceAccount,
)
from tenants.staff import link_to

ROWS = 10


@dataclass(frozen=True)
class Panel:
    title: str
    headers: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    all_url: str = ""  # the list of all of them
    has_more: bool = False

    @property
    def table(self) -> dict[str, Any]:
        """As unfold's table component takes it."""
        return {"headers": self.headers, "rows": self.rows}


Builder = Callable[[Organization], Panel]
_builders: list[Builder] = []


def register(builder: Builder) -> Builder:
    """Add a panel to every organization's page, at the end."""
    _builders.append(builder)
    return builder


def panels_of(organization: Organization) -> list[Panel]:
    return [builder(organization) for builder in _builders]


def panel(
    title: str,
    headers: tuple[str, ...],
    rows: QuerySet[Any],
    cells: Callable[[Any], tuple[Any, ...]],
    organization: Organization,
) -> Panel:
    """Of the first rows; one more is read, to know whether there are more."""
    found = list(rows[: ROWS + 1])
    return Panel(
        title,
        headers,
        [cells(row) for row in found[:ROWS]],
        list_url(rows.model, organization),
        len(found) > ROWS,
    )


def list_url(model: type[Model], organization: Organization) -> str:
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"
    return f"{reverse(name)}?organization__id__exact={organization.pk}"


@register
def _members(organization: Organization) -> Panel:
    rows = Membership.objects.filter(organization=organization).select_related("user")
    return panel(
        "Members",
        ("Person", "Role", "Since"),
        rows.order_by("pk"),
        lambda row: (link_to(row, row.user.email), row.get_role_display(), _day(row.created_at)),
        organization,
    )


@register
def _projects(organization: Organization) -> Panel:
    return panel(
        "Projects",
        ("Name", "Identifier", "State"),
        Project.objects.filter(organization=organization).order_by("pk"),
        lambda row: (link_to(row), row.public_id, "Archived" if row.archived_at else "Active"),
        organization,
    )


@register
def _keys(organization: Organization) -> Panel:
    rows = ApiKey.objects.filter(organization=organization).select_related("project")
    return panel(
        "API keys, newest first",
        ("Name", "Kind", "Project", "State", "Last used"),
        rows.defer("secret_hmac", "previous_secret_hmac").order_by("-created_at", "-pk"),
        lambda row: (
            link_to(row),
            row.get_kind_display(),
            row.project or "–",
            "Active" if row.is_live else "Off",
            _day(row.last_used_at),
        ),
        organization,
    )


@register
def _service_accounts(organization: Organization) -> Panel:
    rows = ServiceAccount.objects.filter(organization=organization).select_related("project")
    return panel(
        "Service accounts",
        ("Name", "Project", "State"),
        rows.order_by("pk"),
        lambda row: (link_to(row), row.project, "Deleted" if row.deleted_at else "Active"),
        organization,
    )


@register
def _invitations(organization: Organization) -> Panel:
    return panel(
        "Invitations, newest first",
        ("Address", "Role", "State", "Ends"),
        Invitation.objects.filter(organization=organization).order_by("-pk"),
        lambda row: (link_to(row, row.email), row.role, row.status, _day(row.expires_at)),
        organization,
    )


@register
def _groups(organization: Organization) -> Panel:
    return panel(
        "Groups",
        ("Name", "Identifier"),
        Group.objects.filter(organization=organization).order_by("pk"),
        lambda row: (link_to(row), row.public_id),
        organization,
    )


@register
def _roles(organization: Organization) -> Panel:
    return panel(
        "Roles of its own",
        ("Name", "Permissions"),
        CustomRole.objects.filter(organization=organization).order_by("pk"),
        lambda row: (link_to(row), ", ".join(row.permissions)),
        organization,
    )


@register
def _providers(organization: Organization) -> Panel:
    return panel(
        "Identity providers",
        ("Name", "Protocol", "Verified domains", "State"),
        IdentityProvider.objects.filter(organization=organization)
        .defer("secret_encrypted")
        .order_by("pk"),
        lambda row: (
            link_to(row),
            row.get_protocol_display(),
            ", ".join(row.verified_domains) or "–",
            "On" if row.is_enabled else "Off",
        ),
        organization,
    )


@register
def _audit(organization: Organization) -> Panel:
    return panel(
        "Audit trail, newest first",
        ("When", "What", "Object", "Who", "From"),
        audit_events.get_audit_events(organization),
        lambda row: (
            link_to(row, f"{row.at:%Y-%m-%d %H:%M:%S}"),
            row.action,
            row.object_id,
            row.acting_user or row.acting_key or "The platform",
            row.address or "–",
        ),
        organization,
    )


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d}" if moment else "–"
