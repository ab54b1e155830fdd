"""From an uploaded file to lines that wait, or to a list of what is wrong with it."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Sum
from django.db.models.functions import Now

from inference.batches.locks import lock_batch
from inference.batches.models import Batch
from inference.batches.output import tell_ended
from inference.batches.requests import MOST_FRAME_BYTES, Fault, check_line, split_lines
from inference.files.models import File
from inference.models import Model, ModelAlias
from inference.objects import object_store
from tenants.principals import get_key_principal

# A file with a thousand faults is told a hundred of them.
MOST_FAULTS = 100
_INSERTED_AT_ONCE = 5_000
_REPORTED_EVERY = 500
# Class of the advisory locks under which an organization's queue is taken; any number.
_QUEUE_LOCK = 5_109
KINDS = {
    "/v1/chat/completions": Model.Kind.CHAT,
    "/v1/completions": Model.Kind.CHAT,
    "/v1/embeddings": Model.Kind.EMBEDDING,
}
_INSERT = """
INSERT INTO inference_batchline (
    organization_id, batch_id, number, custom_id, position, length, state)
SELECT %s, %s, line.*, 'waiting'
FROM unnest(%s::int[], %s::text[], %s::bigint[], %s::int[]) AS line
"""


@dataclass
class Found:
    """The lines of a file, compactly: fifty thousand are some ten megabytes."""

    numbers: array[int] = field(default_factory=lambda: array("L"))
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    lengths: array[int] = field(default_factory=lambda: array("L"))
    custom_ids: dict[str, int] = field(default_factory=dict)  # the line that has it
    model: str = ""
    tokens: int = 0
    faults: list[Fault] = field(default_factory=list)

    def fault(self, code: str, message: str, param: str | None = None) -> None:
        self.faults.append(Fault(code, message, param))


def validate_batch(
    public_id: str, report: Callable[[int], None], effect: Callable[[], AbstractContextManager[Any]]
) -> None:
    """``report`` is told the lines read, now and then, and may raise to stop it; what is
    decided commits in the block of ``effect``."""
    batch = Batch.objects.select_related("organization__plan", "project").get(public_id=public_id)
    found = _read(batch, report)
    if not found.faults:
        _check_model(batch, found)
    with effect():
        lock_batch(batch)
        if batch.status != Batch.Status.VALIDATING:  # cancelled meanwhile
            return
        if not found.faults:
            _check_queue(batch, found)
        if found.faults:
            _fail(batch, found.faults)
        else:
            _start(batch, found)


def _read(batch: Batch, report: Callable[[int], None]) -> Found:
    found = Found()
    file = File.objects.filter(public_id=batch.input_file).first()
    if file is None:
        found.fault("file_not_found", "The input file is gone.", "input_file_id")
        return found
    most = settings.MAX_BODY_BYTES + MOST_FRAME_BYTES
    for line in split_lines(object_store().read(file.object_key), most):
        checked = check_line(line, batch.endpoint, most)
        if isinstance(checked, Fault):
            found.faults.append(checked)
        elif (first := found.custom_ids.setdefault(checked.custom_id, line.number)) != line.number:
            message = f"Line {first} has this custom_id too."
            found.faults.append(Fault("duplicate_custom_id", message, "custom_id", line.number))
        elif checked.model != (found.model or checked.model):
            message = f"All lines of a batch ask one model; the first asks {found.model!r}."
            found.faults.append(Fault("mismatched_model", message, "body.model", line.number))
        else:
            found.model = checked.model
            found.tokens += checked.tokens
            found.numbers.append(line.number)
            found.offsets.append(line.offset)
            found.lengths.append(line.length)
        if len(found.faults) >= MOST_FAULTS:
            return found
        if len(found.custom_ids) > settings.MAX_BATCH_LINES:
            most_lines = f"A batch has at most {settings.MAX_BATCH_LINES} requests."
            found.fault("too_many_requests", most_lines, "input_file_id")
            return found
        if line.number % _REPORTED_EVERY == 0:
            report(line.number)
    if not found.faults and not found.numbers:
        found.fault("empty_file", "The input file has no request.", "input_file_id")
    return found


def _check_model(batch: Batch, found: Found) -> None:
    """What can be known before anything runs; what changes later, each line is told."""
    alias = ModelAlias.objects.filter(name=found.model).select_related("model").first()
    model = alias.model if alias else Model.objects.filter(name=found.model).first()
    names = [found.model, *([model.name] if model else [])]
    principal = get_key_principal(batch.api_key_id)
    if principal is None or principal.is_suspended:
        found.fault("invalid_api_key", "The key that made this batch does not work any more.")
    elif model is None or not model.is_enabled or not principal.may_use(*names):
        message = f"The model `{found.model[:120]}` does not exist or you do not have access to it."
        found.fault("model_not_found", message, "body.model")
    elif model.kind != KINDS[batch.endpoint]:
        message = f"The model `{found.model}` does not serve {batch.endpoint}."
        found.fault("invalid_value", message, "body.model")


def _check_queue(batch: Batch, found: Found) -> None:
    """What an organization may have in line for one model; its plan says."""
    most = batch.organization.plan.batch_tokens
    if most is None:
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [_QUEUE_LOCK, batch.organization_id])
    others = Batch.objects.filter(
        organization=batch.organization_id, model=found.model, ended_at=None
    )
    enqueued = others.aggregate(total=Sum("tokens_enqueued"))["total"] or 0
    if enqueued + found.tokens > most:
        message = (
            f"Enqueued token limit reached for {found.model}: {enqueued} of {most} tokens are in "
            f"line and this batch has some {found.tokens}. Try again when others are finished."
        )
        found.fault("token_limit_exceeded", message)


def _fail(batch: Batch, faults: list[Fault]) -> None:
    Batch.objects.filter(pk=batch.pk).update(
        status=Batch.Status.FAILED,
        errors=[fault.told() for fault in faults[:MOST_FAULTS]],
        ended_at=Now(),
    )
    tell_ended(batch, Batch.Status.FAILED)


def _start(batch: Batch, found: Found) -> None:
    custom_ids = list(found.custom_ids)
    with connection.cursor() as cursor:
        for at in range(0, len(custom_ids), _INSERTED_AT_ONCE):
            part = slice(at, at + _INSERTED_AT_ONCE)
            cursor.execute(
                _INSERT,
                [
                    batch.organization_id,
                    batch.pk,
                    list(found.numbers[part]),
                    custom_ids[part],
                    list(found.offsets[part]),
                    list(found.lengths[part]),
                ],
            )
    Batch.objects.filter(pk=batch.pk).update(
        status=Batch.Status.IN_PROGRESS,
        in_progress_at=Now(),
        model=found.model,
        total=len(custom_ids),
        tokens_enqueued=found.tokens,
    )
