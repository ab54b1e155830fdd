"""The room's error tree: each error carries its HTTP status, code and a client-safe message."""

from __future__ import annotations


class TenantError(Exception):
    """Base: ``status``, ``code``, ``kind`` (OpenAI's ``type``) and ``param`` for doors to map."""

    status = 400
    code = "invalid_request"
    kind = "invalid_request_error"
    param: str | None = None

    def __init__(self, message: str, *, param: str | None = None):
        super().__init__(message)
        self.message = message
        if param is not None:
            self.param = param


class InvalidApiKey(TenantError):
    """No key, a malformed one, an unknown, a revoked or an expired one."""

    status = 401
    code = "invalid_api_key"


class OrganizationSuspended(TenantError):
    status = 403
    code = "organization_suspended"
    kind = "permission_error"


class AddressNotAllowed(TenantError):
    """The key's network list does not hold the caller's address."""

    status = 403
    code = "ip_not_authorized"
    kind = "permission_error"


class AccessDenied(TenantError):
    """The caller's role does not allow this."""

    status = 403
    code = "insufficient_permissions"
    kind = "permission_error"


class NotFound(TenantError):
    """Absent, or of another organization: the two answer alike."""

    status = 404
    code = "not_found"


class InvalidInput(TenantError):
    code = "invalid_value"


class InvitationInvalid(TenantError):
    """The link was used, withdrawn, has expired, never existed, or is another person's."""

    status = 410
    code = "invitation_invalid"


class AlreadyDone(TenantError):
    """The write was made before, under the same identifier; nothing was changed now."""

    status = 409
    code = "already_done"


class RequestInFlight(TenantError):
    """The first request with this Idempotency-Key has not been answered yet."""

    status = 409
    code = "request_in_flight"
    retry_after_s = 1.0


class IdempotencyKeyReused(TenantError):
    """One Idempotency-Key for two different requests."""

    status = 422
    code = "idempotency_key_reused"


class TooManyRequests(TenantError):
    """A door's own limit, not one of a plan."""

    status = 429
    code = "rate_limit_exceeded"
    kind = "rate_limit_error"

    def __init__(self, message: str, *, retry_after_s: float):
        super().__init__(message)
        self.retry_after_s = retry_after_s


# Limits that waiting a moment does not help: OpenAI's clients are told by another code.
QUOTAS = frozenset({"monthly_tokens", "monthly_budget", "prepaid_credit"})


class LimitExceeded(TenantError):
    """A limit refused the request; ``retry_after_s`` is when it would be admitted, None never."""

    status = 429
    code = "rate_limit_exceeded"
    kind = "rate_limit_error"

    def __init__(
        self,
        message: str,
        *,
        limit: str,
        subject: str,
        model: str | None = None,
        retry_after_s: float | None,
        headers: RateHeaders,
    ):
        super().__init__(message)
        self.limit = limit
        self.subject = subject  # organization, project or API key
        self.model = model  # for a limit of one model only
        self.retry_after_s = retry_after_s
        self.headers = headers
        if limit in QUOTAS:
            self.code = self.kind = "insufficient_quota"


class AdmissionUnavailable(TenantError):
    """A limit could not be checked that must be; a request past it might never be paid."""

    status = 503
    code = "service_unavailable"
    kind = "server_error"


RateHeaders = list[tuple[bytes, bytes]]
