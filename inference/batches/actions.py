"""What people and programs change of a batch: make it, cancel it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from inference.batches import BATCH_OUTPUT, BATCH_VALIDATION
from inference.batches.locks import lock_batch
from inference.batches.models import Batch, new_batch_id
from inference.errors import InvalidRequest
from inference.files.models import File
from inference.files.selectors import access_file
from tenants import audit, jobs
from tenants.errors import AlreadyDone, NotFound, TenantError
from tenants.models import ApiKey, Project, User

# With what a key must be allowed to call for itself, to have a batch call it.
SCOPES = {
    "/v1/chat/completions": "inference.chat",
    "/v1/completions": "inference.completions",
    "/v1/embeddings": "inference.embeddings",
}
ENDPOINTS = tuple(SCOPES)
# The only window there is, as at OpenAI.
WINDOW = "24h"
COMPLETION_WINDOW = timedelta(hours=24)
CANCELLABLE = (Batch.Status.VALIDATING, Batch.Status.IN_PROGRESS)
# Of one organization; each takes rows and a file of results.
MOST_OPEN = 100


class TooManyBatches(TenantError):
    status = 429
    code = "too_many_batches"
    kind = "rate_limit_error"
    retry_after_s = 60.0


class BatchEnded(TenantError):
    status = 409
    code = "batch_ended"


@transaction.atomic
def create_batch(
    project: Project,
    *,
    api_key: ApiKey,
    input_file: str,
    endpoint: str,
    metadata: Mapping[str, str] | None = None,
    output_expires_after_s: int | None = None,
    public_id: str | None = None,
    acting_user: User | None,
    address: str | None = None,
) -> Batch:
    """The batch, to be validated by a job. Its lines run in the name of ``api_key``.

    With a ``public_id`` minted beforehand the second call raises AlreadyDone and makes nothing.
    """
    if endpoint not in ENDPOINTS:
        raise InvalidRequest(
            f"Batches run {', '.join(ENDPOINTS)}; not {endpoint[:60]!r}.", param="endpoint"
        )
    try:
        file = access_file(project, input_file)
    except NotFound as error:
        error.param = "input_file_id"
        raise
    if file.purpose != File.Purpose.BATCH:
        raise InvalidRequest(
            "The input file of a batch has the purpose 'batch'.", param="input_file_id"
        )
    open_now = Batch.objects.filter(organization=project.organization, ended_at=None).count()
    if open_now >= MOST_OPEN:
        raise TooManyBatches(f"Your organization has {MOST_OPEN} batches under way; wait for one.")
    # The race of two equal submissions is the unique constraint's.
    batch, is_new = Batch.objects.get_or_create(
        public_id=public_id or new_batch_id(),
        defaults={
            "organization": project.organization,
            "project": project,
            "api_key": api_key,
            "input_file": file.public_id,
            "endpoint": endpoint,
            "metadata": dict(metadata) if metadata is not None else None,
            "output_expires_after_s": output_expires_after_s,
            "expires_at": timezone.now() + COMPLETION_WINDOW,
        },
    )
    if not is_new:
        raise AlreadyDone("This batch was made before.")
    jobs.enqueue(
        BATCH_VALIDATION,
        batch.public_id,
        organization=batch.organization,
        project=project,
        payload={"batch": batch.public_id},
    )
    after = {"input_file_id": file.public_id, "endpoint": endpoint}
    _record(batch, "batch.created", acting_user, address, after=after)
    # The moment is the database's.
    batch.refresh_from_db()
    return batch


@transaction.atomic
def cancel_batch(batch: Batch, *, acting_user: User | None, address: str | None = None) -> Batch:
    """What is finished stays; what runs is stopped, and neither billed nor in a result.

    Twice is once. Raises BatchEnded.
    """
    lock_batch(batch)
    if batch.status == Batch.Status.CANCELLING:
        return batch
    if batch.status not in CANCELLABLE:
        raise BatchEnded(f"Cannot cancel a batch with status '{batch.status}'.")
    before = {"status": batch.status}
    Batch.objects.filter(pk=batch.pk).update(
        status=Batch.Status.CANCELLING, ends_as=Batch.Status.CANCELLED, cancelling_at=Now()
    )
    enqueue_output(batch)
    _record(batch, "batch.cancelled", acting_user, address, before=before)
    batch.refresh_from_db()
    return batch


def enqueue_output(batch: Batch) -> None:
    """In the transaction that ends the batch's running: its files are written once."""
    jobs.enqueue(
        BATCH_OUTPUT,
        batch.public_id,
        organization=batch.organization,
        project=batch.project,
        payload={"batch": batch.public_id},
        max_attempts=20,
    )


def _record(
    batch: Batch,
    action: str,
    acting_user: User | None,
    address: str | None,
    *,
    before: dict[str, str] | None = None,
    after: dict[str, str] | None = None,
) -> None:
    audit.record_event(
        acting_user=acting_user,
        action=action,
        object_type="batch",
        object_id=batch.public_id,
        organization=batch.organization,
        project=batch.project.public_id,
        before=before,
        after=after,
        address=address,
    )
