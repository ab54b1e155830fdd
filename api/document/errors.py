"""Every error that a client can get, with what it means: of the token path and of its pages.

``docs/api.md`` and the document have their tables from here; a test looks for codes in the
source that are not.
"""

from __future__ import annotations

from dataclasses import dataclass

from api.document.guide import table


@dataclass(frozen=True)
class Known:
    """``code`` is null where nothing more can be said than the status."""

    status: int
    code: str | None
    when: str


CATALOGUE = [
    Known(400, None, "the body is no JSON"),
    Known(400, "invalid_type", "a field has the wrong type or is out of its range"),
    Known(400, "invalid_value", "a field's value does not make sense"),
    Known(400, "missing_required_parameter", "a field that is needed is not there"),
    Known(400, "unknown_parameter", "no such field"),
    Known(400, "unsupported_parameter", "known, but not supported here"),
    Known(400, "context_length_exceeded", "prompt and output do not fit the model's context"),
    Known(
        400,
        "previous_response_not_found",
        "a turn before this response was not kept, was deleted or has expired",
    ),
    Known(400, "previous_response_not_completed", "the response before this one has no answer yet"),
    Known(400, "content_policy_violation", "screening refused the request or ended the answer"),
    Known(400, "stream_abandoned", "in a resumable stream: it was cancelled, or nobody read it"),
    Known(400, "stream_too_large", "a resumable stream that cannot be read again"),
    Known(400, "stream_expired", "the events of this response are not kept any more"),
    Known(400, "stream_unavailable", "a response that is made without `stream` has no events yet"),
    Known(
        400,
        "request_quarantined",
        "engines stopped whenever they ran this request; it is refused for five minutes",
    ),
    Known(401, "invalid_api_key", "no key, or a malformed, unknown, revoked or expired one"),
    Known(403, "organization_suspended", "staff suspended the organization"),
    Known(
        403, "insufficient_permissions", "the key lacks this endpoint's scope, or is an admin key"
    ),
    Known(403, "ip_not_authorized", "the key cannot be used from your address"),
    Known(404, "model_not_found", "no such model, or not for this key, project or organization"),
    Known(404, "not_found", "no such file, batch or upload, or not this project's"),
    Known(404, "stream_not_found", "no such stream, not this project's, or not kept any more"),
    Known(404, "unsupported_endpoint", "known, but not supported here"),
    Known(404, "unknown_url", "no such path"),
    Known(405, "method_not_allowed", "the path has other methods"),
    Known(408, "request_timeout", "the body did not arrive in time"),
    Known(409, "batch_ended", "the batch cannot be cancelled any more"),
    Known(409, "conflict", "the state of an object is in the way (management API)"),
    Known(409, "file_in_use", "a batch is reading the file"),
    Known(
        409,
        "idempotent_answer_too_large",
        "the answer to this `Idempotency-Key` was given, and not kept",
    ),
    Known(409, "request_in_flight", "the first request with this `Idempotency-Key` still runs"),
    Known(409, "upload_ended", "the upload is completed, cancelled or has expired"),
    Known(409, "upload_in_progress", "the upload is being completed"),
    Known(413, "file_too_large", "a file is larger than 200 MB, or a part than 64 MiB"),
    Known(413, "request_too_large", "a body is larger than 4 MiB"),
    Known(
        415,
        "unsupported_content_type",
        "not `application/json` (a file: not `multipart/form-data`, or encoded)",
    ),
    Known(416, "range_not_satisfiable", "no such part of a file"),
    Known(422, "idempotency_key_reused", "this `Idempotency-Key` was used with another request"),
    Known(429, "idempotency_storage_full", "the organization keeps as many answers as it may"),
    Known(
        429,
        "rate_limit_exceeded",
        "a limit of a rate or of requests at once; type `rate_limit_error`",
    ),
    Known(
        429,
        "insufficient_quota",
        "the month's tokens, a budget or prepaid credit do not suffice; type `insufficient_quota`",
    ),
    Known(429, "too_many_batches", "100 batches of the organization are under way"),
    Known(
        429,
        "too_many_background_responses",
        "as many of the organization are queued or made as may",
    ),
    Known(429, "stream_storage_full", "no room is left for the stream of another response"),
    Known(429, "too_many_uploads", "100 uploads of the organization are open"),
    Known(429, "too_many_requests", "too many requests or frames on one WebSocket"),
    Known(500, None, "our fault; the log knows it by its `x-request-id`"),
    Known(500, "engine_error", "the engine could not finish the request"),
    Known(503, "model_unavailable", "no replica lives, or the server is at its capacity"),
    Known(503, "overloaded", "the replicas' queues are full, or the wait would be too long"),
    Known(
        503,
        "service_unavailable",
        "keys or limits cannot be checked, files and batches not be reached right now",
    ),
    Known(503, "server_stopped", "in a resumable stream: its gateway stopped"),
    Known(503, "stream_lost", "in a resumable stream: its gateway died"),
    Known(503, "storage_unavailable", "files cannot be stored or read right now"),
    Known(504, "request_timeout", "the request took longer than it may"),
]


def error_table() -> str:
    rows = [
        (str(each.status), f"`{each.code}`" if each.code else "null", each.when)
        for each in CATALOGUE
    ]
    return table(("status", "code", "when"), rows)
