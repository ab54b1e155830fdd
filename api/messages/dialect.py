"""Anthropic's credentials, errors and headers. Source: its API reference and Python client."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

import msgspec

from api.errors import ApiError
from api.http import JSON, Headers, Response, Scope, authorization_of
from tenants.errors import InvalidApiKey

VERSION = b"anthropic-version"


def is_asked_for(scope: Scope) -> bool:
    return any(name == VERSION for name, _ in scope["headers"])


def authorization(scope: Scope) -> bytes | None:
    """``x-api-key`` as the ``Authorization`` that it stands for.

    One key only, by one header: of two, whatever stands before us may have judged the other.
    """
    bearer = authorization_of(scope)
    keys = [bytes(value) for name, value in scope["headers"] if name == b"x-api-key"]
    if len(keys) > 1:
        raise InvalidApiKey("Send one x-api-key header.")
    if not keys:
        return bearer
    key = b"Bearer " + keys[0].strip()
    if bearer is not None and bearer != key:
        raise InvalidApiKey("The headers x-api-key and Authorization name two keys; send one.")
    return key


# --- Errors -----------------------------------------------------------------------------------

# By status; another 4xx is an invalid request, and 5xx the API's own.
_KINDS = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
# A chat's names of what Messages call otherwise.
_RENAMED = (
    (re.compile(r"^response_format\.json_schema\.schema"), "output_config.format.schema"),
    (re.compile(r"^response_format"), "output_config.format"),
    (re.compile(r"^reasoning_effort$"), "output_config.effort"),
    (re.compile(r"^chat_template_kwargs$"), "thinking"),
    (re.compile(r"^tool_choice\.function"), "tool_choice"),
    (re.compile(r"^(tools\.\d+)\.function\.parameters"), r"\1.input_schema"),
    (re.compile(r"^(tools\.\d+)\.function"), r"\1"),
)
_PLACE = re.compile(r"\[(\d+)\]")


def error_response(error: ApiError, request_id: str) -> Response:
    status = _status(error)
    body = {
        "type": "error",
        "error": {"type": kind_of(status), "message": _message(error)},
        "request_id": request_id,
    }
    return Response(status, [JSON, *headers(error.headers, request_id)], msgspec.json.encode(body))


def kind_of(status: int) -> str:
    return _KINDS.get(status, "api_error" if status >= 500 else "invalid_request_error")


def _status(error: ApiError) -> int:
    if error.code == "insufficient_quota":
        return 402  # waiting does not help; clients try 429 again
    return 529 if error.status == 503 else error.status


def _message(error: ApiError) -> str:
    """Anthropic's errors have no field of their own for what is wrong: the message says it."""
    if not error.param:
        return error.message
    param = _PLACE.sub(r".\1", error.param)
    for pattern, name in _RENAMED:
        param = pattern.sub(name, param)
    return f"{param}: {error.message}"


# --- Headers ----------------------------------------------------------------------------------

_RATE = b"x-ratelimit-"
_DURATION = re.compile(rb"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:([\d.]+)s)?(?:(\d+)ms)?")


def headers(those: Headers, request_id: str) -> Headers:
    """With ``request-id``, and the limits under Anthropic's names too."""
    made = [*those, (b"request-id", request_id.encode())]
    for name, value in those:
        if name.startswith(_RATE):
            kind, _, unit = name.removeprefix(_RATE).partition(b"-")
            told = _moment(value) if kind == b"reset" else value
            made.append((b"anthropic-ratelimit-%b-%b" % (unit, kind), told))
    return made


def _moment(duration: bytes) -> bytes:
    """When a bucket is full again, as RFC 3339; OpenAI tells how long that takes."""
    found = _DURATION.fullmatch(duration)
    hours, minutes, seconds, ms = (
        (float(part or 0) for part in found.groups()) if found else [0.0] * 4
    )
    at = time.time() + hours * 3600 + minutes * 60 + seconds + ms / 1000
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
