"""Reads of files, each of one project."""

from __future__ import annotations

from inference.files.models import File, FileQuerySet
from tenants.errors import NotFound
from tenants.models import Project


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
