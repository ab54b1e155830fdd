"""Batches: made, shown, listed, cancelled."""

from __future__ import annotations

from typing import Any

from api.batches.wire import CreateBatch, ListBatches, batch_object, check_metadata
from api.http import Request, Response
from api.resources import Caller, Page, Route, answered, body_of, page_of, query_of, route
from inference.batches import actions
from inference.batches.models import Batch
from inference.batches.selectors import access_batch, get_batches
from tenants.errors import AccessDenied
from tenants.models import ApiKey, Project
from tenants.pages import Cursor, list_page


async def create_batch(caller: Caller, request: Request) -> Response:
    body = body_of(await request.json_body(), CreateBatch)
    check_metadata(body.metadata)
    scope = actions.SCOPES.get(body.endpoint)
    if scope is not None and not caller.principal.may(scope):
        raise AccessDenied(f"This API key lacks the scope {scope}.")
    return answered(batch_object(await caller.work(_create, body)))


def _create(project: Project, key: ApiKey, body: CreateBatch) -> Batch:
    asked = body.output_expires_after
    return actions.create_batch(
        project,
        api_key=key,
        input_file=body.input_file_id,
        endpoint=body.endpoint,
        metadata=body.metadata,
        output_expires_after_s=None if asked is None else asked.seconds,
        acting_user=None,
    )


async def list_batches(caller: Caller, request: Request) -> Response:
    return answered(await caller.work(_list, query_of(request, ListBatches)))


def _list(project: Project, key: ApiKey, query: ListBatches) -> Page[dict[str, Any]]:
    cursor = Cursor(query.limit, after=query.after, is_descending=True)
    found = list_page(get_batches(project), cursor)
    return page_of(found, [batch_object(row) for row in found.rows])


async def get_batch(caller: Caller, request: Request, batch_id: str) -> Response:
    return answered(batch_object(await caller.work(_find, batch_id)))


def _find(project: Project, key: ApiKey, batch_id: str) -> Batch:
    return access_batch(project, batch_id)


async def cancel_batch(caller: Caller, request: Request, batch_id: str) -> Response:
    return answered(batch_object(await caller.work(_cancel, batch_id)))


def _cancel(project: Project, key: ApiKey, batch_id: str) -> Batch:
    return actions.cancel_batch(access_batch(project, batch_id), acting_user=None)


ROUTES: list[Route] = [
    route("POST", "/v1/batches", "batches.write", create_batch),
    route("GET", "/v1/batches", "batches.read", list_batches),
    route("GET", "/v1/batches/{}", "batches.read", get_batch),
    route("POST", "/v1/batches/{}/cancel", "batches.write", cancel_batch),
]
