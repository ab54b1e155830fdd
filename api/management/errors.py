"""Whatever goes wrong in the management API, as OpenAI's error object."""

from __future__ import annotations

import logging

import psycopg
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.db import DatabaseError, DataError, IntegrityError
from django.http import Http404, HttpResponse
from redis.exceptions import RedisError
from rest_framework import exceptions

from api.errors import INTERNAL, ApiError, api_error
from inference.errors import InferenceError
from tenants.errors import InvalidInput, NotFound, TenantError

log = logging.getLogger(__name__)


def error_of(error: Exception, request_id: str) -> ApiError:
    """What a client is told; what it is not told goes to the log with its stack."""
    if isinstance(error, TenantError | InferenceError):
        return api_error(error)
    if isinstance(error, exceptions.MethodNotAllowed):
        return ApiError(
            405, str(error.detail), "invalid_request_error", None, "method_not_allowed"
        )  # fmt: skip
    if isinstance(error, Http404):
        return api_error(NotFound("No such object."))
    if isinstance(error, RequestDataTooBig):
        return ApiError(
            413, "The request's body is too large.", "invalid_request_error", None,
            "request_too_large",
        )  # fmt: skip
    if isinstance(error, SuspiciousOperation):
        return api_error(InvalidInput("The request is malformed."))
    if isinstance(error, DatabaseError | psycopg.Error):
        return _database_error(error, request_id)
    if isinstance(error, RedisError):
        log.warning("management.redis", extra={"request_id": request_id}, exc_info=error)
        return _unavailable("The cache does not answer right now. Try again shortly.")
    log.exception("management.failed", extra={"request_id": request_id}, exc_info=error)
    return INTERNAL


def _database_error(error: Exception, request_id: str) -> ApiError:
    log.warning("management.database", extra={"request_id": request_id}, exc_info=error)
    if isinstance(error, DataError):
        return api_error(InvalidInput("A value cannot be stored: it is out of range."))
    if isinstance(error, IntegrityError):
        return ApiError(
            409, "Another request changed the same objects; try again.",
            "invalid_request_error", None, "conflict",
        )  # fmt: skip
    return _unavailable("The database does not answer right now. Try again shortly.")


def _unavailable(message: str) -> ApiError:
    unavailable = ApiError(503, message, "server_error", None, "service_unavailable")
    unavailable.headers.append((b"retry-after", b"1"))
    return unavailable


def response_of(error: ApiError) -> HttpResponse:
    response = HttpResponse(error.body(), status=error.status, content_type="application/json")
    for name, value in error.headers:
        response.headers[name.decode()] = value.decode()
    return response
