"""A batch's files, written from its lines when nothing of it runs any more."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import msgspec
from django.db.models.functions import Now
from django.utils import timezone

from inference.batches.locks import lock_batch
from inference.batches.models import Batch, BatchLine
from inference.files.actions import KEPT_FOR, begin_file, finish_file, give_up_file
from inference.files.models import File
from inference.objects import ObjectWriter, object_store
from tenants import webhooks

_READ_AT_ONCE = 500
_MOST_READ_BYTES = 8 << 20
_UNFINISHED = {
    Batch.Status.EXPIRED: (
        "batch_expired",
        "This request could not be executed before the completion window expired.",
    ),
    Batch.Status.CANCELLED: (
        "batch_cancelled",
        "This request was not executed because the batch was cancelled.",
    ),
}


def write_output(
    public_id: str, report: Callable[[int], None], effect: Callable[[], AbstractContextManager[Any]]
) -> None:
    """Each ``custom_id`` once: in the output file, or in the error file with what hindered it.

    Every attempt writes into files of its own; those of one that died are swept. ``report``
    may raise to stop it.
    """
    batch = Batch.objects.select_related("organization__plan", "project").get(public_id=public_id)
    output = _OutputFile(batch, "output")
    errors = _OutputFile(batch, "error")
    try:
        for line in _lines(batch):
            (output if line.state == BatchLine.State.DONE else errors).write(_told(batch, line))
            report(output.lines + errors.lines)
        output.commit()
        errors.commit()
        with effect():
            lock_batch(batch)
            _end(batch, output, errors)
    except BaseException:
        output.abort()
        errors.abort()
        raise


def _lines(batch: Batch) -> Iterator[BatchLine]:
    """In the order of the input file, some at once: results may be large."""
    after, most = 0, _READ_AT_ONCE
    while True:
        rows = BatchLine.objects.filter(batch=batch, number__gt=after).order_by("number")[:most]
        read = list(rows)
        if not read:
            return
        yield from read
        after = read[-1].number
        mean = sum(len(line.result or b"") for line in read) // len(read) or 1
        most = max(1, min(_READ_AT_ONCE, _MOST_READ_BYTES // mean))


def _told(batch: Batch, line: BatchLine) -> bytes:
    if line.result is not None:
        return bytes(line.result)
    code, message = _UNFINISHED[Batch.Status(batch.ends_as)]
    error = {"code": code, "message": message}
    return error_line(batch.public_id, line.number, line.custom_id, error)


def error_line(batch: str, number: int, custom_id: str, error: dict[str, Any]) -> bytes:
    """A line of the error file about a request that was not answered at all."""
    return msgspec.json.encode(
        {
            "id": line_id(batch, number),
            "custom_id": custom_id,
            "response": None,
            "error": error,
        }
    )


def line_id(batch: str, number: int) -> str:
    return f"batch_req_{batch.removeprefix('batch_')}-{number}"


def _end(batch: Batch, output: _OutputFile, errors: _OutputFile) -> None:
    lines = BatchLine.objects.filter(batch=batch)
    # Those that never ran failed as well: counts add up to the total.
    unfinished = lines.filter(result=None).count()
    Batch.objects.filter(pk=batch.pk).update(
        status=batch.ends_as,
        ended_at=Now(),
        failed=batch.failed + unfinished,
        output_file=output.finish(),
        error_file=errors.finish(),
    )
    # All that they say is in the files now.
    lines.delete()
    tell_ended(batch, batch.ends_as)


def tell_ended(batch: Batch, status: str) -> None:
    """In the transaction that ends it; the status is the event's name too."""
    data = {"id": batch.public_id}
    webhooks.tell(batch.organization_id, f"batch.{status}", data, project=batch.project_id)


class _OutputFile:
    """A file that is there only if a line came. Blocking: what it writes goes to the store."""

    def __init__(self, batch: Batch, name: str):
        self._batch = batch
        self._name = name
        self._file: File | None = None
        self._writer: ObjectWriter | None = None
        self._digest = hashlib.sha256()
        self._bytes = 0
        self.lines = 0

    def write(self, line: bytes) -> None:
        if self._writer is None:
            batch = self._batch
            self._file = begin_file(
                batch.project, reserved_bytes=0, api_key=None, purpose=File.Purpose.BATCH_OUTPUT
            )
            self._writer = object_store().writer(self._file.object_key)
        data = line + b"\n"
        self._writer.write(data)
        self._digest.update(data)
        self._bytes += len(data)
        self.lines += 1

    def commit(self) -> None:
        if self._writer is not None:
            self._writer.commit()

    def abort(self) -> None:
        if self._writer is not None:
            self._writer.abort()
        if self._file is not None:
            give_up_file(self._file)

    def finish(self) -> str:
        """In the transaction of the batch's end; its id, empty if there is none."""
        if self._file is None:
            return ""
        asked = self._batch.output_expires_after_s
        kept_for = KEPT_FOR if asked is None else timedelta(seconds=asked)
        finish_file(
            self._file,
            filename=f"{self._batch.public_id}_{self._name}.jsonl",
            size=self._bytes,
            sha256=self._digest.hexdigest(),
            expires_at=timezone.now() + kept_for,
            acting_user=None,
        )
        return self._file.public_id
