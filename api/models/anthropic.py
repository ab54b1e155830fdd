"""The same models as Anthropic lists them: for whoever sends ``anthropic-version``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from api.gateway import Gateway
from api.http import Request
from api.resolve import find_model, usable_deployments
from api.resources import query_of
from inference.errors import InvalidRequest
from inference.models import Model
from inference.registry import ModelEntry, Served
from tenants.principal import Principal


class Query(msgspec.Struct, frozen=True):
    after_id: str | None = None
    before_id: str | None = None
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 20


def answer(gateway: Gateway, principal: Principal, request: Request, name: str) -> bytes:
    """The model of this name or alias, or, without one, a page of those that chat."""
    if name:
        return msgspec.json.encode(_model(*find_model(gateway, name, principal)))
    return msgspec.json.encode(_page(gateway, principal, query_of(request, Query)))


def _page(gateway: Gateway, principal: Principal, query: Query) -> dict[str, Any]:
    snapshot = gateway.registry.snapshot
    models = [
        _model(entry, usable)
        for entry in snapshot.models.values()
        if entry.kind == Model.Kind.CHAT
        and (usable := usable_deployments(snapshot, entry, principal))
    ]
    places = {model["id"]: place for place, model in enumerate(models)}
    begin, end = 0, len(models)
    if query.after_id is not None:
        begin = _place(places, query.after_id, "after_id") + 1
    if query.before_id is not None:
        end = _place(places, query.before_id, "before_id")
        page = models[max(begin, end - query.limit) : end]
        has_more = end - query.limit > begin
    else:
        page = models[begin : begin + query.limit]
        has_more = begin + query.limit < end
    return {
        "data": page,
        "has_more": has_more,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
    }


def _place(places: dict[str, int], name: str, param: str) -> int:
    if name not in places:
        raise InvalidRequest("No such model.", param=param)
    return places[name]


def _model(entry: ModelEntry, usable: list[Served]) -> dict[str, Any]:
    longest = usable[0].max_context_tokens
    return {
        "type": "model",
        "id": entry.name,
        "display_name": entry.name,
        "created_at": datetime.fromtimestamp(entry.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
        "max_input_tokens": longest,
        "max_tokens": longest,
    }
