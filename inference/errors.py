"""The room's error tree: each error carries its HTTP status, code and a client-safe message."""

from __future__ import annotations

from tenants.errors import TenantError


class InferenceError(Exception):
    """Base: ``status``, ``code``, ``kind`` (OpenAI's ``type``), ``param`` for doors to map."""

    status = 400
    code: str | None = "invalid_request"
    kind = "invalid_request_error"
    param: str | None = None
    retry_after_s: float | None = None

    def __init__(self, message: str, *, param: str | None = None):
        super().__init__(message)
        self.message = message
        if param is not None:
            self.param = param


class InvalidRequest(InferenceError):
    """A field of the request has a wrong value; ``param`` names it."""

    code: str | None = "invalid_value"


class ModelNotFound(InferenceError):
    status = 404
    code = "model_not_found"
    param = "model"


class ContextLengthExceeded(InferenceError):
    code = "context_length_exceeded"


class ContentBlocked(InferenceError):
    """Screening refused the input or ended the output."""

    code = "content_policy_violation"


class NoReplica(InferenceError):
    """No replica of the model lives right now."""

    status = 503
    code = "model_unavailable"
    kind = "server_error"
    retry_after_s = 5.0


class FleetUnreachable(TenantError):
    """Redis does not answer, by which alone replicas are heard and reached."""

    status = 503
    code = "service_unavailable"
    kind = "server_error"

    def __init__(self) -> None:
        super().__init__("Redis does not answer: no replica can be heard or reached.")


class Overloaded(InferenceError):
    status = 503
    code = "overloaded"
    kind = "server_error"
    retry_after_s = 1.0


class RequestFailed(InferenceError):
    """The engine could not finish this request."""

    status = 500
    code = "engine_error"
    kind = "server_error"


class RequestQuarantined(InferenceError):
    """Engines died of it. Not 5xx: clients try those again by themselves."""

    code = "request_quarantined"


class RequestTimedOut(InferenceError):
    status = 504
    code = "request_timeout"
    kind = "server_error"


class StoreError(InferenceError):
    """The model store could not fetch, convert or verify weights."""


class BadSource(StoreError):
    """The URI is malformed, or what it names is no model."""

    code = "invalid_source"


class MissingExtra(StoreError):
    """A source needs a package that is not installed."""

    status = 500
    code = "missing_package"

    def __init__(self, package: str, extra: str, purpose: str):
        super().__init__(
            f"{purpose} needs {package}: install this project with its `{extra}` extra."
        )


class ChecksumMismatch(StoreError):
    """Bytes are not what their publisher, the manifest or the operator says."""

    code = "checksum_mismatch"


class VersionTaken(StoreError):
    """This model and version already hold something else."""

    status = 409
    code = "version_taken"


class FetchFailed(StoreError):
    """The network or the other side failed; what was fetched is kept for the next pull."""

    status = 502
    code = "fetch_failed"
    retry_after_s = 30.0


class ConversionFailed(StoreError):
    status = 500
    code = "conversion_failed"


class StoreBusy(StoreError):
    """Another pull of the same model and version did not end in time."""

    status = 409
    code = "store_busy"
    retry_after_s = 60.0
