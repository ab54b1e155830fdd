"""Reads of uploads, each of one project."""

from __future__ import annotations

from inference.uploads.models import Upload
from tenants.errors import NotFound
from tenants.models import Project


def access_upload(project: Project, public_id: str) -> Upload:
    """Whatever became of it; NotFound if there is none of this project (any more)."""
    rows = Upload.objects.filter(project=project).select_related("organization", "project", "file")
    upload = rows.filter(public_id=public_id).first()
    if upload is None:
        raise NotFound(f"No such Upload object: {public_id[:64]}", param="upload_id")
    return upload
