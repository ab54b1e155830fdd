"""Batches in OpenAI's form."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from api.files.wire import ExpiresAfter
from inference.batches.models import Batch
from inference.batches.selectors import ended_at
from inference.errors import InvalidRequest

MOST_METADATA = 16
MOST_METADATA_KEY, MOST_METADATA_VALUE = 64, 512


class CreateBatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    input_file_id: Annotated[str, Meta(min_length=1, max_length=64)]
    endpoint: Annotated[str, Meta(max_length=200)]
    completion_window: Literal["24h"]
    metadata: dict[str, str] | None = None
    output_expires_after: ExpiresAfter | None = None


class ListBatches(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    after: Annotated[str, Meta(max_length=64)] | None = None


def check_metadata(metadata: dict[str, str] | None) -> None:
    if metadata is None:
        return
    if len(metadata) > MOST_METADATA:
        raise InvalidRequest(f"'metadata' has at most {MOST_METADATA} keys.", param="metadata")
    for name, value in metadata.items():
        if not 0 < len(name) <= MOST_METADATA_KEY or len(value) > MOST_METADATA_VALUE:
            raise InvalidRequest(
                f"Keys of 'metadata' have 1 to {MOST_METADATA_KEY} characters, "
                f"values at most {MOST_METADATA_VALUE}.",
                param="metadata",
            )
        if "\0" in name or "\0" in value:
            raise InvalidRequest("'metadata' holds no NUL.", param="metadata")


def batch_object(batch: Batch) -> dict[str, Any]:
    return {
        "id": batch.public_id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.model or None,
        "errors": {"object": "list", "data": batch.errors} if batch.errors else None,
        "input_file_id": batch.input_file,
        "completion_window": "24h",
        "status": batch.status,
        "output_file_id": batch.output_file or None,
        "error_file_id": batch.error_file or None,
        "created_at": _unix(batch.created_at),
        "in_progress_at": _unix(batch.in_progress_at),
        "expires_at": _unix(batch.expires_at),
        "finalizing_at": _unix(batch.finalizing_at),
        "completed_at": _unix(ended_at(batch, Batch.Status.COMPLETED)),
        "failed_at": _unix(ended_at(batch, Batch.Status.FAILED)),
        "expired_at": _unix(ended_at(batch, Batch.Status.EXPIRED)),
        "cancelling_at": _unix(batch.cancelling_at),
        "cancelled_at": _unix(ended_at(batch, Batch.Status.CANCELLED)),
        "request_counts": {
            "total": batch.total,
            "completed": batch.completed,
            "failed": batch.failed,
        },
        "usage": _usage(batch),
        "metadata": batch.metadata,
    }


def _usage(batch: Batch) -> dict[str, Any]:
    return {
        "input_tokens": batch.input_tokens,
        "input_tokens_details": {"cached_tokens": batch.cached_tokens},
        "output_tokens": batch.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": batch.input_tokens + batch.output_tokens,
    }


def _unix(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())
