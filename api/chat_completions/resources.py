"""Kept chat completions: listed, shown, relabelled, deleted, and what they answered."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from api.batches.wire import check_metadata
from api.http import Request, Response
from api.parameters import MOST_METADATA, Metadata
from api.resources import (
    Caller,
    Page,
    Route,
    answered,
    body_of,
    page_of,
    query_of,
    route,
)
from api.responses.resources import ListItems, page_of_items
from inference.answers import actions
from inference.answers.content import unseal
from inference.answers.models import StoredAnswer
from inference.answers.selectors import access_answer, get_answers
from inference.errors import InvalidRequest
from tenants.models import ApiKey, Project
from tenants.pages import Cursor, list_page

CHAT = StoredAnswer.Kind.CHAT


class ListCompletions(msgspec.Struct, frozen=True, kw_only=True):
    """Beside these, ``metadata[name]=value`` for each pair that is looked for."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    after: Annotated[str, Meta(max_length=64)] | None = None
    order: Literal["asc", "desc"] = "asc"
    model: Annotated[str, Meta(max_length=200)] | None = None


class ListMessages(ListItems, frozen=True, kw_only=True):
    order: Literal["asc", "desc"] = "asc"


class UpdateCompletion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    metadata: Metadata | None


async def list_completions(caller: Caller, request: Request) -> Response:
    query = query_of(request, ListCompletions)
    return answered(await caller.work(_list, query, wanted_metadata(request)))


def wanted_metadata(request: Request) -> dict[str, str]:
    text = request.scope.get("query_string", b"").decode("utf-8", "replace")
    pairs = parse_qsl(text, keep_blank_values=True)
    found = {
        name[len("metadata[") : -1]: value
        for name, value in pairs
        if name.startswith("metadata[") and name.endswith("]")
    }
    if len(found) > MOST_METADATA or any("\0" in part for pair in found.items() for part in pair):
        raise InvalidRequest(
            f"At most {MOST_METADATA} pairs can be looked for, without NUL.", param="metadata"
        )
    return found


def _list(
    project: Project, key: ApiKey, query: ListCompletions, metadata: dict[str, str]
) -> Page[dict[str, Any]]:
    rows = get_answers(project, CHAT)
    if query.model is not None:
        rows = rows.filter(model=query.model)
    if metadata:
        rows = rows.filter(metadata__contains=metadata)
    cursor = Cursor(query.limit, after=query.after, is_descending=query.order == "desc")
    found = list_page(rows, cursor, among=get_answers(project, CHAT))
    return page_of(found, [unseal(row.content)["completion"] for row in found.rows])


async def get_completion(caller: Caller, request: Request, completion_id: str) -> Response:
    return answered((await caller.work(_content, completion_id))["completion"])


def _content(project: Project, key: ApiKey, completion_id: str) -> dict[str, Any]:
    return unseal(access_answer(project, CHAT, completion_id).content)


async def update_completion(caller: Caller, request: Request, completion_id: str) -> Response:
    body = body_of(await request.json_body(), UpdateCompletion)
    check_metadata(body.metadata)
    content = await caller.work(_update, completion_id, body.metadata)
    return answered(content["completion"])


def _update(
    project: Project, key: ApiKey, completion_id: str, metadata: dict[str, str] | None
) -> dict[str, Any]:
    answer = access_answer(project, CHAT, completion_id)
    return actions.change_metadata(answer, metadata, acting_user=None)


async def delete_completion(caller: Caller, request: Request, completion_id: str) -> Response:
    await caller.work(_delete, completion_id)
    return answered({"id": completion_id, "object": "chat.completion.deleted", "deleted": True})


def _delete(project: Project, key: ApiKey, completion_id: str) -> None:
    actions.delete_answer(access_answer(project, CHAT, completion_id), acting_user=None)


async def list_messages(caller: Caller, request: Request, completion_id: str) -> Response:
    query = query_of(request, ListMessages)
    messages = (await caller.work(_content, completion_id))["messages"]
    numbered = [
        {**message, "id": f"{completion_id}-{place}"} for place, message in enumerate(messages)
    ]
    return answered(page_of_items(numbered, query))


_COMPLETION = "/v1/chat/completions/{}"
ROUTES: list[Route] = [
    route("GET", "/v1/chat/completions", "answers.read", list_completions),
    route("GET", _COMPLETION, "answers.read", get_completion),
    route("POST", _COMPLETION, "answers.write", update_completion),
    route("DELETE", _COMPLETION, "answers.write", delete_completion),
    route("GET", _COMPLETION + "/messages", "answers.read", list_messages),
]
