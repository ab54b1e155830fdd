"""What clients of OpenAI and Anthropic know and this platform does not serve: refused by name.

404 and not 501, because clients repeat a 5xx, and repeating does not help. The document, the page
of conformance and the refusals have their reasons from here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from api.http import Request, Response
from api.resources import Caller, Route, route
from inference.errors import InferenceError


class UnsupportedEndpoint(InferenceError):
    status = 404
    code = "unsupported_endpoint"


_THREADS = "turns are followed by `previous_response_id`; there are no assistants and threads."
_MEDIA = "models here read and write text alone."
_REALTIME = "models here do not speak; several requests at once share a socket on `/v1/stream`."
_HOSTED = "nothing is run or searched for a model here; a client runs its tools itself."
_TRAINING = "models are made elsewhere, and versions of them registered by the platform's staff."
_SCREENING = "each organization's policy screens its requests, and there is no call for it alone."
_OPENAI = "it tells of OpenAI's own services."

# By the beginning of the path after ``/v1/``, and what completes “not served here: …”.
REASONS = {
    "agents": _HOSTED,
    "assistants": _THREADS,
    "audio": _MEDIA,
    "chatkit": _HOSTED,
    "complete": "`/v1/messages` is the form of Anthropic's that is served.",
    "containers": _HOSTED,
    "content_provenance_checks": _MEDIA,
    "conversations": _THREADS,
    "decisions": _SCREENING,
    "evals": "answers are not graded here.",
    "fine_tuning": _TRAINING,
    "images": _MEDIA,
    "live": _REALTIME,
    "messages/batches": "batches of chats are at `/v1/batches`, in OpenAI's form.",
    "moderations": _SCREENING,
    "realtime": _REALTIME,
    "safety": _OPENAI,
    "skills": _HOSTED,
    "threads": _THREADS,
    "vaults": _HOSTED,
    "vector_stores": _HOSTED,
    "videos": _MEDIA,
}
_COMPACTION = "nothing is summed up; `truncation` leaves out what does not fit."
_DELETED_MODEL = "models are taken away by the platform's staff."


def reason_of(method: str, path: str) -> str:
    """Why this is known and not served; empty if nobody knows it."""
    if method == "DELETE" and path.startswith("/v1/models/"):
        return _DELETED_MODEL
    below = path.removeprefix("/v1/")
    for head, reason in REASONS.items():
        if below == head or below.startswith(f"{head}/"):
            return reason
    return ""


def refusal(reason: str) -> UnsupportedEndpoint:
    told = reason.replace("`", "'")
    return UnsupportedEndpoint(f"This endpoint is not served here: {told}")


async def refuse_compaction(caller: Caller, request: Request) -> Response:
    raise refusal(_COMPACTION)


# Beside what is served: whoever may not ask that is told so first.
RESPONSES: list[Route] = [
    route("POST", "/v1/responses/compact", "inference.chat", refuse_compaction)
]
OF_ROUTES: dict[Callable[..., Any], str] = {refuse_compaction: _COMPACTION}
