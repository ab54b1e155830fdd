"""What people are shown of a batch's files: what is wrong with the first lines, what failed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec
from django.conf import settings

from inference.batches.actions import ENDPOINTS
from inference.batches.models import Batch, BatchLine
from inference.batches.requests import (
    MOST_FRAME_BYTES,
    Fault,
    check_line,
    decode_request,
    split_lines,
)
from inference.files.models import File
from inference.objects import ObjectMissing, object_store

# Enough to catch a file of the wrong kind at once; the batch's own validation reads all of it.
MOST_CHECKED_BYTES = 1 << 20
MOST_CHECKED_LINES = 2_000
MOST_FAULTS = 20
MOST_FAILURES = 20
_MOST_FAILURE_BYTES = 256 << 10


@dataclass(frozen=True)
class FailedLine:
    custom_id: str
    status: int | None  # HTTP's; None where nothing was answered
    code: str
    message: str


def first_faults(chunks: Iterable[bytes]) -> list[Fault]:
    """What is wrong within the first MiB, of at most 20 lines; a file without a line is a fault."""
    endpoint, faults, is_empty = "", [], True
    most = settings.MAX_BODY_BYTES + MOST_FRAME_BYTES
    for line in split_lines(_beginning(chunks), most):
        is_empty = False
        endpoint = endpoint or (endpoint_of(line.content or b"") or ENDPOINTS[0])
        checked = check_line(line, endpoint, most)
        if isinstance(checked, Fault):
            faults.append(checked)
        if len(faults) >= MOST_FAULTS or line.number >= MOST_CHECKED_LINES:
            break
    if is_empty:
        faults.append(Fault("empty_file", "The file has no request.", None, None))
    return faults


def _beginning(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Whole lines: the one that the bound cuts is left out, but the first is read to its end."""
    kept = bytearray()
    for chunk in chunks:
        kept += chunk
        if len(kept) <= MOST_CHECKED_BYTES:
            continue
        end = kept.rfind(b"\n", 0, MOST_CHECKED_BYTES) + 1 or kept.find(b"\n") + 1
        if end or len(kept) > settings.MAX_BODY_BYTES + MOST_FRAME_BYTES:
            yield bytes(kept[: end or None])
            return
    yield bytes(kept)


def endpoint_of(line: bytes) -> str:
    """What a file's first line asks, if batches run that; else nothing."""
    try:
        url = decode_request(line).url
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    return url if url in ENDPOINTS else ""


def endpoint_of_file(file: File) -> str:
    """The same of a stored file. Raises ObjectStoreUnavailable."""
    try:
        beginning = b"".join(object_store().read(file.object_key, 0, min(file.bytes, 256 << 10)))
    except ObjectMissing:
        return ""
    return endpoint_of(next((each for each in beginning.split(b"\n") if each.strip()), b""))


class _ToldError(msgspec.Struct, frozen=True):
    code: str | None = None
    message: str | None = None


class _ToldBody(msgspec.Struct, frozen=True):
    error: _ToldError | None = None


class _ToldResponse(msgspec.Struct, frozen=True):
    status_code: int | None = None
    body: _ToldBody = field(default_factory=_ToldBody)


class _Told(msgspec.Struct, frozen=True):
    """A line of an error file."""

    custom_id: str
    response: _ToldResponse | None = None
    error: _ToldError | None = None


_decode_told = msgspec.json.Decoder(_Told).decode


def get_failed_lines(batch: Batch) -> list[FailedLine]:
    """The first 20 that failed: of its lines while it runs, of its error file after that.

    Raises ObjectStoreUnavailable.
    """
    if not batch.failed:
        return []
    if batch.is_open:
        rows = BatchLine.objects.filter(batch=batch, state=BatchLine.State.FAILED)
        results = rows.exclude(result=None).order_by("number").values_list("result", flat=True)
        return [_failed(bytes(result or b"")) for result in results[:MOST_FAILURES]]
    file = File.objects.shown().filter(public_id=batch.error_file).first()
    if file is None:
        return []
    try:
        read = b"".join(
            object_store().read(file.object_key, 0, min(file.bytes, _MOST_FAILURE_BYTES))
        )
    except ObjectMissing:
        return []
    whole = read[: read.rfind(b"\n") + 1].splitlines()
    return [_failed(line) for line in whole[:MOST_FAILURES]]


def _failed(line: bytes) -> FailedLine:
    told = _decode_told(line)
    answered = told.response
    error = told.error or (answered.body.error if answered else None) or _ToldError()
    return FailedLine(
        told.custom_id,
        answered.status_code if answered else None,
        error.code or "",
        error.message or "",
    )
