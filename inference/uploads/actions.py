"""What clients change of an upload: begin it, add parts, complete it, cancel it.

Bytes are the object store's. A part, and a file that is put together, are a row first, then
an object, then shown: what dies between is swept.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from inference.errors import InvalidRequest
from inference.files import actions as file_actions
from inference.files.models import File
from inference.uploads.models import Upload, UploadPart
from tenants.errors import TenantError
from tenants.models import ApiKey, Project, User

# As at OpenAI.
OPEN_FOR = timedelta(hours=1)
MOST_PART_BYTES = 64 << 20
# A file of the greatest size in parts of 200 KB.
MOST_PARTS = 1_000
# Of one organization. Each may hold a part more in the store than it announced.
MOST_OPEN = 100
# The greatest file is read, hashed and written in seconds; a store that crawls gets this long.
LEASE = timedelta(minutes=10)


class UploadEnded(TenantError):
    status = 409
    code = "upload_ended"


class UploadInProgress(TenantError):
    status = 409
    code = "upload_in_progress"
    retry_after_s = 2.0


class TooManyUploads(TenantError):
    status = 429
    code = "too_many_uploads"
    kind = "rate_limit_error"
    retry_after_s = 60.0


@transaction.atomic
def begin_upload(
    project: Project,
    *,
    api_key: ApiKey | None,
    filename: str,
    mime_type: str,
    purpose: str,
    size: int,
    file_kept_for_s: int | None,
) -> Upload:
    """Its quota is held from here on. Raises FileTooLarge, StorageQuotaExceeded, TooManyUploads."""
    organization = project.organization
    pending = Upload.objects.filter(organization=organization, state=Upload.State.PENDING)
    try:
        # It also keeps others of the organization out until the transaction ends.
        file = _reserved_file(project, api_key, purpose, size)
    except file_actions.FileTooLarge as error:
        error.param = "bytes"
        raise
    if pending.filter(expires_at__gt=Now()).count() >= MOST_OPEN:
        raise TooManyUploads(f"Your organization has {MOST_OPEN} uploads open; end one of them.")
    upload = Upload.objects.create(
        organization=organization,
        project=project,
        api_key=api_key,
        file=file,
        filename=filename,
        mime_type=mime_type,
        purpose=purpose,
        bytes=size,
        file_kept_for_s=file_kept_for_s,
        expires_at=timezone.now() + OPEN_FOR,
    )
    upload.refresh_from_db(fields=["created_at", "expires_at"])
    return upload


def _reserved_file(project: Project, api_key: ApiKey | None, purpose: str, size: int) -> File:
    return file_actions.begin_file(project, reserved_bytes=size, api_key=api_key, purpose=purpose)


def part_too_large() -> file_actions.FileTooLarge:
    error = file_actions.FileTooLarge(f"A part has at most {MOST_PART_BYTES} bytes.")
    error.param = "data"
    return error


@transaction.atomic
def begin_part(upload: Upload, *, reserved_bytes: int) -> UploadPart:
    """A row for what is about to be written.

    All parts together have at most the announced bytes and one part more, so that one whose
    answer was lost can be sent again. Raises UploadEnded, InvalidRequest.
    """
    room = upload.bytes + MOST_PART_BYTES - reserved_bytes
    taken = _open_uploads(upload).filter(
        leased_until=None, part_count__lt=MOST_PARTS, part_bytes__lte=room
    )
    if not taken.update(
        part_bytes=F("part_bytes") + reserved_bytes, part_count=F("part_count") + 1
    ):
        raise _why_not(upload)
    return UploadPart.objects.create(
        organization=upload.organization, upload=upload, bytes=reserved_bytes
    )


def _open_uploads(upload: Upload) -> QuerySet[Upload]:
    return Upload.objects.filter(pk=upload.pk, state=Upload.State.PENDING, expires_at__gt=Now())


def _why_not(upload: Upload) -> TenantError | InvalidRequest:
    """Why it takes no part."""
    upload.refresh_from_db()
    if ended := _ended(upload):
        return ended
    if upload.leased_until is not None:
        return UploadInProgress("The upload is being completed.")
    if upload.part_count >= MOST_PARTS:
        return InvalidRequest(f"An upload has at most {MOST_PARTS} parts.", param="data")
    return InvalidRequest(
        f"The upload was announced with {upload.bytes} bytes; its parts have more.", param="data"
    )


def _ended(upload: Upload) -> UploadEnded | None:
    if upload.state != Upload.State.PENDING:
        return UploadEnded(f"The upload is {upload.state}.")
    if upload.expires_at <= timezone.now():
        return UploadEnded("The upload has expired.")
    return None


@transaction.atomic
def finish_part(part: UploadPart, *, size: int) -> UploadPart:
    """All its bytes are in the object store."""
    still = UploadPart.objects.filter(pk=part.pk, upload__state=Upload.State.PENDING)
    if not still.update(bytes=size, is_stored=True):
        raise UploadEnded("The upload ended while the part was received.")
    Upload.objects.filter(pk=part.upload_id).update(
        part_bytes=F("part_bytes") - (part.bytes - size)
    )
    part.refresh_from_db()
    return part


@transaction.atomic
def give_up_part(part: UploadPart) -> None:
    """After its object is gone. What it took of the upload's bounds is free again."""
    if UploadPart.objects.filter(pk=part.pk).delete()[0]:
        Upload.objects.filter(pk=part.upload_id).update(
            part_bytes=F("part_bytes") - part.bytes, part_count=F("part_count") - 1
        )


@transaction.atomic
def begin_completion(upload: Upload, part_ids: Sequence[str]) -> list[UploadPart] | None:
    """The parts in the order of the file, for whoever called to put together within ``LEASE``.

    None if it is complete already, of these very parts. Whoever was here before and is not heard
    of any more is fenced off by a file that is another one. Raises UploadEnded, UploadInProgress,
    InvalidRequest.
    """
    parts = _chosen_parts(upload, part_ids)
    free = _open_uploads(upload).filter(Q(leased_until=None) | Q(leased_until__lte=Now()))
    if not free.update(leased_until=Now() + LEASE):
        upload.refresh_from_db()
        if upload.state == Upload.State.COMPLETED and upload.part_ids == list(part_ids):
            return None
        raise _ended(upload) or UploadInProgress("The upload is being completed.")
    if upload.leased_until is not None:
        _replace_file(upload)
    return parts


def _chosen_parts(upload: Upload, part_ids: Sequence[str]) -> list[UploadPart]:
    if upload.state != Upload.State.PENDING:
        return []
    if len(set(part_ids)) != len(part_ids):
        raise InvalidRequest("A part is named twice.", param="part_ids")
    stored = {
        part.public_id: part
        for part in UploadPart.objects.filter(upload=upload, is_stored=True, public_id__in=part_ids)
    }
    for place, public_id in enumerate(part_ids):
        if public_id not in stored:
            raise InvalidRequest(
                f"The upload has no part {public_id[:64]!r}.", param=f"part_ids[{place}]"
            )
    parts = [stored[public_id] for public_id in part_ids]
    size = sum(part.bytes for part in parts)
    if size != upload.bytes:
        raise InvalidRequest(
            f"The parts have {size} bytes; the upload was announced with {upload.bytes}.",
            param="part_ids",
        )
    return parts


def _replace_file(upload: Upload) -> None:
    """Whoever writes the old one cannot finish it, nor is in the way of the new one's object."""
    assert upload.file is not None
    file_actions.give_up_file(upload.file)
    file = _reserved_file(upload.project, upload.api_key, upload.purpose, upload.bytes)
    Upload.objects.filter(pk=upload.pk).update(file=file)
    upload.file = file


def give_back_completion(upload: Upload) -> None:
    """It failed, and left nothing: it may be tried again."""
    Upload.objects.filter(pk=upload.pk, state=Upload.State.PENDING, file=upload.file).update(
        leased_until=None
    )


@transaction.atomic
def finish_completion(
    upload: Upload, part_ids: Sequence[str], *, sha256: str, acting_user: User | None
) -> Upload:
    """The file is whole in the object store, and shown from here on; once, whoever asks.

    Raises UploadEnded for whom another one was faster, or the upload was cancelled.
    """
    still = Upload.objects.filter(pk=upload.pk, state=Upload.State.PENDING, file=upload.file)
    if not still.update(state=Upload.State.COMPLETED, part_ids=list(part_ids), leased_until=None):
        raise UploadEnded("The upload ended while it was being completed.")
    assert upload.file is not None
    kept_for = file_actions.KEPT_FOR
    if upload.file_kept_for_s is not None:
        kept_for = timedelta(seconds=upload.file_kept_for_s)
    file_actions.finish_file(
        upload.file,
        filename=upload.filename,
        size=upload.bytes,
        sha256=sha256,
        expires_at=timezone.now() + kept_for,
        acting_user=acting_user,
    )
    upload.refresh_from_db()
    return upload


@transaction.atomic
def cancel_upload(upload: Upload) -> Upload:
    """Its quota is free; no part can be added. Twice is once. Raises UploadEnded."""
    pending = Upload.objects.filter(pk=upload.pk, state=Upload.State.PENDING)
    if pending.update(state=Upload.State.CANCELLED) and upload.file is not None:
        file_actions.give_up_file(upload.file)
    upload.refresh_from_db()
    if upload.state != Upload.State.CANCELLED:
        raise UploadEnded(f"Cannot cancel an upload with status '{upload.state}'.")
    return upload
