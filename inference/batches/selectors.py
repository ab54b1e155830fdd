"""Reads of batches: of one project, or of an organization's where somebody may see them."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from django.db.models import Q, QuerySet

from inference.batches.models import Batch
from tenants.errors import NotFound
from tenants.models import Organization, Project


def get_batches(project: Project) -> QuerySet[Batch]:
    return Batch.objects.filter(project=project)


def access_batch(project: Project, public_id: str) -> Batch:
    """With what its changes need; NotFound if it is absent or another project's."""
    rows = get_batches(project).select_related("organization", "project", "api_key")
    batch = rows.filter(public_id=public_id).first()
    if batch is None:
        raise NotFound(f"No such Batch object: {public_id[:64]}", param="id")
    return batch


def get_organization_batches(
    organization: Organization,
    *,
    projects: Collection[int] | None = None,
    status: str = "",
    search: str = "",
) -> QuerySet[Batch]:
    """Of these projects (primary keys; None: of all), with them.

    ``search`` finds the identifier of the batch or of its input file, or the model's name.
    """
    batches = Batch.objects.filter(organization=organization).select_related("project")
    if projects is not None:
        batches = batches.filter(project__in=projects)
    if status:
        batches = batches.filter(status=status)
    if search and "\0" not in search:
        named = Q(public_id=search) | Q(input_file=search) | Q(model__icontains=search)
        batches = batches.filter(named)
    return batches


def access_organization_batch(organization: Organization, public_id: str) -> Batch:
    """The same by its identifier; NotFound if it is another organization's."""
    rows = get_organization_batches(organization).select_related("organization", "api_key")
    batch = None if "\0" in public_id else rows.filter(public_id=public_id).first()
    if batch is None:
        raise NotFound("No such batch.", param="id")
    return batch


def ended_at(batch: Batch, status: str) -> datetime | None:
    """When it became ``status``, if that is what it ended as."""
    return batch.ended_at if batch.status == status else None


def progress_percent(batch: Batch) -> int | None:
    """From 0 to 100; None while nobody knows how many lines it has."""
    if not batch.total:
        return None
    return 100 * (batch.completed + batch.failed) // batch.total


def get_running_batches(organizations: Collection[int] | None = None) -> QuerySet[Batch]:
    """What is not over yet, for pages and metrics."""
    rows = Batch.objects.filter(ended_at=None)
    return rows if organizations is None else rows.filter(organization__in=organizations)
