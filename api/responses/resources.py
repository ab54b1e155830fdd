"""Kept responses: shown, whole or as a stream, cancelled, deleted, and what they answered."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from api.gateway import current_gateway
from api.http import Request, Response
from api.resources import Caller, Page, Route, answered, query_of, route
from api.responses import following
from inference.answers import actions, background, selectors
from inference.answers.models import StoredAnswer
from inference.answers.selectors import access_answer
from inference.errors import InvalidRequest
from tenants.models import ApiKey, Project

RESPONSE = StoredAnswer.Kind.RESPONSE


class ListItems(msgspec.Struct, frozen=True, kw_only=True):
    """Names of what else could be included are let in: items here hold all that they have."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    after: Annotated[str, Meta(max_length=64)] | None = None
    order: Literal["asc", "desc"] = "desc"


class Retrieve(msgspec.Struct, frozen=True, kw_only=True):
    """``include`` is let in as well: a response has all that its request asked for."""

    stream: bool = False
    starting_after: int | None = None


async def get_response(caller: Caller, request: Request, response_id: str) -> Response:
    query = query_of(request, Retrieve)
    if query.stream:
        return await following.stream(current_gateway(), caller, response_id, query.starting_after)
    if query.starting_after is not None:
        raise InvalidRequest(
            "The parameter 'starting_after' is only allowed with 'stream'.", param="starting_after"
        )
    content = await caller.work(_content, response_id)
    return answered(content["response"])


def _content(project: Project, key: ApiKey, response_id: str) -> dict[str, Any]:
    return selectors.get_response(project, response_id)


async def delete_response(caller: Caller, request: Request, response_id: str) -> Response:
    await caller.work(_delete, response_id)
    await following.forget(current_gateway(), caller, response_id)
    return answered({"id": response_id, "object": "response", "deleted": True})


def _delete(project: Project, key: ApiKey, response_id: str) -> None:
    actions.delete_answer(access_answer(project, RESPONSE, response_id), acting_user=None)


async def cancel_response(caller: Caller, request: Request, response_id: str) -> Response:
    """The response; as at OpenAI, of those in the background. Who makes it stops within a
    moment and adds what was made and used by then; what nobody makes yet has ended."""
    response, is_made = await caller.work(_cancel, response_id)
    if not is_made:
        await following.close(current_gateway(), response)
    return answered(response)


def _cancel(project: Project, key: ApiKey, response_id: str) -> tuple[dict[str, Any], bool]:
    answer = access_answer(project, RESPONSE, response_id)
    return background.cancel_response(answer, acting_user=None), selectors.has_work(answer)


async def list_input_items(caller: Caller, request: Request, response_id: str) -> Response:
    query = query_of(request, ListItems)
    items = (await caller.work(_content, response_id))["input"]
    return answered(page_of_items(items, query))


def page_of_items(items: list[dict[str, Any]], query: ListItems) -> Page[dict[str, Any]]:
    """Of objects that are known by their ids and lie in one row."""
    if query.order == "desc":
        items = items[::-1]
    if query.after is not None:
        places = [place for place, item in enumerate(items) if item["id"] == query.after]
        if not places:
            raise InvalidRequest(f"No item has the id '{query.after}'.", param="after")
        items = items[places[0] + 1 :]
    page = items[: query.limit]
    return Page(
        data=page,
        first_id=page[0]["id"] if page else None,
        last_id=page[-1]["id"] if page else None,
        has_more=len(items) > len(page),
    )


ROUTES: list[Route] = [
    route("GET", "/v1/responses/{}", "answers.read", get_response),
    route("DELETE", "/v1/responses/{}", "answers.write", delete_response),
    route("POST", "/v1/responses/{}/cancel", "answers.write", cancel_response),
    route("GET", "/v1/responses/{}/input_items", "answers.read", list_input_items),
]
