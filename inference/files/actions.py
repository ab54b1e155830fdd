"""Every change to files: begin, finish, give up, delete. Bytes are the object store's."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Sum
from django.utils import timezone

from inference.batches.models import Batch
from inference.errors import InvalidRequest
from inference.files.models import File
from tenants import audit
from tenants.errors import NotFound, TenantError
from tenants.models import ApiKey, Organization, Project, User

# As at OpenAI: what batches read goes away after a month, if nothing else was asked for.
KEPT_FOR = timedelta(days=30)
# Class of the advisory locks under which an organization's quota is taken; any number.
_QUOTA_LOCK = 5_108


class StorageQuotaExceeded(TenantError):
    status = 429
    code = "insufficient_quota"
    kind = "insufficient_quota"


class FileInUse(TenantError):
    status = 409
    code = "file_in_use"


class FileTooLarge(InvalidRequest):
    status = 413
    code = "file_too_large"
    param = "file"


@transaction.atomic
def begin_file(
    project: Project, *, reserved_bytes: int, api_key: ApiKey | None, purpose: str
) -> File:
    """A row for what is about to be written; the quota holds ``reserved_bytes`` meanwhile.

    Raises FileTooLarge and StorageQuotaExceeded. What is never finished is swept an hour later.
    """
    if reserved_bytes > settings.MAX_FILE_BYTES and purpose == File.Purpose.BATCH:
        raise too_large()
    organization = project.organization
    if purpose == File.Purpose.BATCH:  # results are written whatever it holds
        check_quota(organization, reserved_bytes)
    return File.objects.create(
        organization=organization,
        project=project,
        api_key=api_key,
        purpose=purpose,
        bytes=reserved_bytes,
    )


def check_quota(organization: Organization, added_bytes: int) -> None:
    """Raises StorageQuotaExceeded. Nobody else takes of the quota until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [_QUOTA_LOCK, organization.pk])
    quota = organization.plan.stored_bytes
    stored = stored_bytes(organization)
    if quota is not None and stored + added_bytes > quota:
        raise StorageQuotaExceeded(
            f"Your organization stores {stored} bytes of files and may store {quota}; "
            f"{added_bytes} more do not fit. Delete files that you do not need."
        )


def stored_bytes(organization: Organization) -> int:
    kept = File.objects.filter(organization=organization, deleted_at=None)
    return kept.aggregate(total=Sum("bytes"))["total"] or 0


@transaction.atomic
def finish_file(
    file: File,
    *,
    filename: str,
    size: int,
    sha256: str,
    expires_at: datetime | None,
    acting_user: User | None,
    address: str | None = None,
) -> File:
    """All bytes are in the object store: from here on it is a file."""
    file.filename, file.bytes, file.sha256 = filename, size, sha256
    file.state, file.expires_at = File.State.STORED, expires_at
    still = File.objects.filter(pk=file.pk, state=File.State.RECEIVING, deleted_at=None)
    values = ("filename", "bytes", "sha256", "state", "expires_at")
    if not still.update(**{name: getattr(file, name) for name in values}):
        raise NotFound("The file was given up while it was received; send it again.")
    audit.record_event(
        acting_user=acting_user,
        action="file.created",
        object_type="file",
        object_id=file.public_id,
        organization=file.organization,
        project=file.project.public_id,
        after={"filename": filename, "purpose": file.purpose, "bytes": size},
        address=address,
    )
    return file


def give_up_file(file: File) -> None:
    """It will not be finished: its quota is free, and the sweep deletes what was written."""
    File.objects.filter(pk=file.pk, state=File.State.RECEIVING).update(deleted_at=timezone.now())


@transaction.atomic
def delete_file(file: File, *, acting_user: User | None, address: str | None = None) -> None:
    """Nobody sees it any more; the sweep deletes the bytes within a minute."""
    in_use = Batch.objects.filter(
        project=file.project_id, input_file=file.public_id, ended_at=None
    ).first()
    if in_use is not None:
        raise FileInUse(f"{in_use.public_id} is reading this file; cancel it or wait for its end.")
    deleted = File.objects.filter(pk=file.pk, deleted_at=None).update(deleted_at=timezone.now())
    if deleted:
        audit.record_event(
            acting_user=acting_user,
            action="file.deleted",
            object_type="file",
            object_id=file.public_id,
            organization=file.organization,
            project=file.project.public_id,
            before={"filename": file.filename, "purpose": file.purpose, "bytes": file.bytes},
            address=address,
        )


def too_large() -> FileTooLarge:
    return FileTooLarge(f"A file has at most {settings.MAX_FILE_BYTES} bytes.")
