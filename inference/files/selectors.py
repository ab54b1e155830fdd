"""Reads of files: of one project, or of an organization's where somebody may see them."""

from __future__ import annotations

from collections.abc import Collection

from inference.files.models import File, FileQuerySet
from tenants.errors import NotFound
from tenants.models import Organization, Project


def get_files(project: Project) -> FileQuerySet:
    """What clients see."""
    return File.objects.filter(project=project).shown()


def access_file(project: Project, public_id: str) -> File:
    """A file that is there, with its organization and plan; NotFound otherwise."""
    rows = get_files(project).select_related("organization__plan", "project")
    file = rows.filter(public_id=public_id).first()
    if file is None:
        raise NotFound(f"No such File object: {public_id[:64]}", param="id")
    return file


def get_organization_files(
    organization: Organization,
    *,
    projects: Collection[int] | None = None,
    purpose: str = "",
    search: str = "",
) -> FileQuerySet:
    """What clients of these projects (primary keys; None: of all) see, with the projects.

    ``search`` finds a part of the name, or the whole identifier.
    """
    files = File.objects.filter(organization=organization).shown().select_related("project")
    if projects is not None:
        files = files.filter(project__in=projects)
    if purpose:
        files = files.filter(purpose=purpose)
    if search and "\0" not in search:
        files = files.filter(filename__icontains=search) | files.filter(public_id=search)
    return files


def access_organization_file(organization: Organization, public_id: str) -> File:
    """The same by its identifier, with its plan; NotFound if it is another organization's."""
    rows = get_organization_files(organization).select_related("organization__plan", "project")
    file = None if "\0" in public_id else rows.filter(public_id=public_id).first()
    if file is None:
        raise NotFound("No such file.", param="id")
    return file
