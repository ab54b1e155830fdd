"""Whose words a path speaks around its bodies: credentials, errors, frames and headers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from api import sse
from api.errors import ApiError
from api.http import JSON, Headers, Response, Scope, authorization_of
from api.messages import dialect as anthropic


@dataclass(frozen=True)
class Dialect:
    authorization: Callable[[Scope], bytes | None]
    error: Callable[[ApiError, str], Response]  # with the request's id
    frame: Callable[[bytes], bytes]  # of a stream's chunk
    end: bytes  # of every stream
    headers: Callable[[Headers, str], Headers]  # of an answer, beside those of OpenAI

    def error_frame(self, error: ApiError, request_id: str) -> bytes:
        return self.frame(self.error(error, request_id).body)


def _openai_error(error: ApiError, request_id: str) -> Response:
    return Response(error.status, [JSON, *error.headers], error.body())


def _event_or_error(data: bytes) -> bytes:
    """An error's object has no type of its own to begin with."""
    return sse.event_frame(data) if data.startswith(b'{"type":') else sse.frame(data)


def _as_they_are(headers: Headers, request_id: str) -> Headers:
    return headers


OPENAI = Dialect(authorization_of, _openai_error, sse.frame, sse.DONE, _as_they_are)
ANTHROPIC = Dialect(
    anthropic.authorization, anthropic.error_response, sse.event_frame, b"", anthropic.headers
)
RESPONSES = Dialect(authorization_of, _openai_error, _event_or_error, b"", _as_they_are)
_RESPONSES = "/v1/responses"
_MESSAGES, _MODELS = "/v1/messages", "/v1/models"


def dialect_of(scope: Scope) -> Dialect:
    """By the path; models are listed in the words of whoever names a version of Anthropic's."""
    path = scope["path"]
    if path == _RESPONSES:
        return RESPONSES
    if not path.startswith("/v1/m"):
        return OPENAI
    if path == _MESSAGES or path.startswith(_MESSAGES + "/"):
        return ANTHROPIC
    if path == _MODELS or path.startswith(_MODELS + "/"):
        return ANTHROPIC if anthropic.is_asked_for(scope) else OPENAI
    return OPENAI
