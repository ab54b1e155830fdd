"""Batches, tickets, and the frames that a WebSocket's server sends."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, UnsetType

from api.document.shapes import Shape
from api.document.shapes.chat import CachedTokens, Place, ReasoningTokens, Tokens
from api.management.wire import ErrorDetail


class BatchError(Shape, frozen=True):
    code: str
    message: str
    line: int | None
    param: str | None


class BatchErrors(Shape, frozen=True):
    object: Literal["list"]
    data: list[BatchError]


class BatchCounts(Shape, frozen=True):
    total: Place
    completed: Place
    failed: Place


class BatchUsage(Shape, frozen=True):
    input_tokens: Tokens
    input_tokens_details: CachedTokens
    output_tokens: Tokens
    output_tokens_details: ReasoningTokens
    total_tokens: Tokens


class BatchObject(Shape, frozen=True):
    id: str
    object: Literal["batch"]
    endpoint: str
    model: str | None
    errors: BatchErrors | None
    input_file_id: str
    completion_window: Literal["24h"]
    status: Literal[
        "validating", "failed", "in_progress", "finalizing", "completed", "expired",
        "cancelling", "cancelled",
    ]  # fmt: skip
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int | None
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: BatchCounts
    usage: BatchUsage
    metadata: dict[str, str] | None


class TicketObject(Shape, frozen=True):
    """``subprotocols`` are what a page offers when it opens its socket."""

    object: Literal["stream.ticket"]
    ticket: str
    expires_at: int
    subprotocols: list[str]


# --- Frames of the server ---------------------------------------------------------------------


class ChunkFrame(Shape, frozen=True, tag_field="type", tag="chunk"):
    """``data`` is the endpoint's chunk, ``event`` its number if the stream can be resumed."""

    id: str
    data: dict[str, Any]
    event: int | UnsetType = UNSET


class ResponseFrame(Shape, frozen=True, tag_field="type", tag="response"):
    id: str
    data: dict[str, Any]


class ErrorFrame(Shape, frozen=True, tag_field="type", tag="error"):
    id: str
    error: ErrorDetail


class DoneFrame(Shape, frozen=True, tag_field="type", tag="done"):
    id: str
    request_id: str
    headers: dict[str, str] | UnsetType = UNSET


class GoodbyeFrame(Shape, frozen=True, tag_field="type", tag="goodbye"):
    running: dict[str, str]


ServerFrame = ChunkFrame | ResponseFrame | ErrorFrame | DoneFrame | GoodbyeFrame
