"""How gateways hear of a change: PostgreSQL tells them as its transaction commits."""

from __future__ import annotations

from django.db import connection

from tenants.models import Organization

CHANNEL = "tenants_changed"


def notify_change(organization: Organization | int) -> None:
    """Tell every gateway, on commit, to forget what it knows of this organization's keys."""
    pk = organization if isinstance(organization, int) else organization.pk
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, str(pk)])


def notify_all_changed() -> None:
    """The same for every organization, after a plan changed."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '*')", [CHANNEL])
