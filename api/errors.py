"""Every error in OpenAI's shape: all four of message, type, param and code."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from inference.errors import InferenceError, InvalidRequest
from tenants.errors import LimitExceeded, TenantError

Headers = list[tuple[bytes, bytes]]
T = TypeVar("T")


class MethodNotAllowed(InferenceError):
    status = 405
    code = "method_not_allowed"


class UnknownPath(InferenceError):
    status = 404
    code = "unknown_url"


@dataclass(frozen=True)
class ApiError:
    """An error as a client sees it."""

    status: int
    message: str
    kind: str
    param: str | None
    code: str | None
    headers: Headers = field(default_factory=list)

    def body(self) -> bytes:
        return msgspec.json.encode(
            {
                "error": {
                    "message": self.message,
                    "type": self.kind,
                    "param": self.param,
                    "code": self.code,
                }
            }
        )


INTERNAL = ApiError(
    500,
    "The server had an error while processing your request.",
    "server_error",
    None,
    None,
)


def api_error(error: TenantError | InferenceError) -> ApiError:
    """Map a room's error; nothing but its own message goes out."""
    headers: Headers = []
    retry_after_s = getattr(error, "retry_after_s", None)
    if isinstance(error, LimitExceeded):
        headers += error.headers
    if retry_after_s is None and error.status == 503:
        retry_after_s = 1.0
    if retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(retry_after_s))))
        headers.append((b"retry-after-ms", b"%d" % max(1, math.ceil(retry_after_s * 1000))))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return ApiError(error.status, error.message, error.kind, error.param, error.code, headers)


class MalformedBody(InvalidRequest):
    """The body is no JSON object of the endpoint's form."""


_AT = re.compile(r" - at `(?:key in )?\$\.?([^`]*)`$")
_UNKNOWN = re.compile(r"Object contains unknown field `([^`]*)`")
_MISSING = re.compile(r"Object missing required field `([^`]*)`")


def decoded(decode: Callable[[bytes], T], raw: bytes) -> T:
    """A request's body as ``decode`` reads it; MalformedBody, naming the field, where it cannot."""
    try:
        return decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(error) from None


def malformed(error: Exception) -> MalformedBody:
    """A decoding failure in words of the API, naming the field."""
    text = str(error)
    at = _AT.search(text)
    path = at[1] if at else ""
    text = text[: at.start()] if at else text
    if unknown := _UNKNOWN.match(text):
        return _named(
            f"Unrecognized request argument supplied: {unknown[1]}",
            _joined(path, unknown[1]),
            "unknown_parameter",
        )
    if missing := _MISSING.match(text):
        return _named(
            f"Missing required parameter: '{_joined(path, missing[1])}'.",
            _joined(path, missing[1]),
            "missing_required_parameter",
        )
    if not isinstance(error, msgspec.ValidationError):
        return _named(f"We could not parse the JSON body of your request: {text}.", None, None)
    where = f" for '{path}'" if path else ""
    return _named(f"Invalid value{where}: {text}.", path or None, "invalid_type")


def _named(message: str, param: str | None, code: str | None) -> MalformedBody:
    error = MalformedBody(message, param=param)
    error.code = code
    return error


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
