"""Names and public ids of what ``analysis`` cuts usage by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet

from billing.analysis import Dimension
from tenants.models import ApiKey, Organization, Project, ServiceAccount, User


@dataclass(frozen=True)
class Named:
    """``public_id`` is empty for what has none: no key, a model (which is its name)."""

    label: str
    public_id: str = ""
    note: str = ""  # what tells namesakes apart


def name_slices(organization: Organization, by: Dimension, keys: Iterable[str]) -> dict[str, Named]:
    """What the slices' keys stand for, one statement a table; those that are gone are left out."""
    asked = [key for key in keys if key]
    if by == "model":
        return {key: Named(key, key) for key in asked}
    if by == "project":
        projects = Project.objects.filter(organization=organization)
        return {str(row.pk): Named(row.name, row.public_id) for row in _among(projects, asked)}
    if by == "key":
        return {
            str(key.pk): Named(key.name, key.public_id, f"…{key.last_four}")
            for key in _among(ApiKey.objects.filter(organization=organization), asked)
        }
    return _owners(organization, asked) if by == "user" else {}


def _owners(organization: Organization, keys: list[str]) -> dict[str, Named]:
    """Positive numbers are service accounts, negative ones people."""
    people = [key[1:] for key in keys if key.startswith("-")]
    programs = [key for key in keys if not key.startswith("-")]
    accounts = ServiceAccount.objects.filter(organization=organization)
    # Whoever left made the keys that they made: their name stays.
    makers = User.objects.filter(created_keys__organization=organization).distinct()
    return {str(row.pk): Named(row.name, row.public_id) for row in _among(accounts, programs)} | {
        f"-{row.pk}": Named(row.name or row.email, row.public_id, row.email)
        for row in _among(makers, people)
    }


def _among(rows: QuerySet[Any], keys: list[str]) -> Iterable[Any]:
    return rows.filter(pk__in=[int(key) for key in keys]) if keys else ()
