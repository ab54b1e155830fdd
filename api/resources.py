"""Files and batches over HTTP: routed here by method and path, worked on in threads.

Not Django's views, because an upload is streamed and its caller is a project's key, whom
the token path authenticates. What a call does in the database it does in one of a few
threads, in its organization's scope and in the name of its key.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qsl

import msgspec
from django.db import DatabaseError, connection

from api.errors import malformed
from api.http import JSON, Request, Response
from inference.errors import InferenceError, InvalidRequest, NoReplica
from tenants import audit
from tenants.errors import AccessDenied
from tenants.models import ApiKey, Project
from tenants.pages import Listed
from tenants.principal import Principal
from tenants.scope import Scope, entered

T = TypeVar("T")
# Each is one statement or a few; what waits for a thread has a bound as well.
THREADS = 8
MOST_WAITING = 64
MOST_QUERY_PARAMETERS = 20
_threads = ThreadPoolExecutor(THREADS, "resources")
_waiting = 0


class DatabaseAway(InferenceError):
    status = 503
    code = "service_unavailable"
    kind = "server_error"


@dataclass(frozen=True)
class Caller:
    """Whoever asks, and from where."""

    principal: Principal
    address: str | None

    async def work(self, action: Callable[..., T], *arguments: Any) -> T:
        """``action(project, key, *arguments)`` in a thread, in the caller's scope."""
        return await in_thread(partial(self._in_scope, action, *arguments))

    def _in_scope(self, action: Callable[..., T], *arguments: Any) -> T:
        scope = Scope(organization=self.principal.organization)
        with entered(scope):
            projects = Project.objects.select_related("organization__plan")
            project = projects.get(pk=self.principal.project)
            key = ApiKey.objects.get(pk=self.principal.api_key)
            with audit.acting_program(key, self.address):
                return action(project, key, *arguments)


async def in_thread(action: Callable[[], T]) -> T:
    """What touches the database; its connection goes back to the pool."""
    global _waiting  # noqa: PLW0603 - one pool a process
    if _waiting >= MOST_WAITING:
        raise NoReplica("This server is at its capacity. Try again shortly.")
    _waiting += 1
    try:
        return await asyncio.get_running_loop().run_in_executor(_threads, _closing, action)
    except DatabaseError as error:
        raise DatabaseAway("Files and batches cannot be reached right now.") from error
    finally:
        _waiting -= 1


def _closing(action: Callable[[], T]) -> T:
    try:
        return action()
    finally:
        connection.close()


# --- Routes ---------------------------------------------------------------------------------

Handle = Callable[..., Awaitable[Response]]


@dataclass(frozen=True)
class Route:
    method: str
    pattern: re.Pattern[str]
    scope: str  # ``tenants.permissions.KEY_SCOPES``
    handle: Handle


def route(method: str, path: str, scope: str, handle: Handle) -> Route:
    """``{}`` in a path stands for an identifier, which ``handle`` is given."""
    return Route(method, re.compile(path.replace("{}", r"([A-Za-z0-9_-]{1,64})")), scope, handle)


def find_route(routes: list[Route], method: str, path: str) -> tuple[Route | None, list[str]]:
    """The route of this method, and the methods that the path has."""
    there = [each for each in routes if each.pattern.fullmatch(path)]
    chosen = next((each for each in there if each.method == method), None)
    return chosen, [each.method for each in there]


async def answer(request: Request, principal: Principal, found: Route) -> Response:
    if principal.kind == "admin":
        raise AccessDenied("Admin keys manage an organization; use a project's key here.")
    if not principal.may(found.scope):
        raise AccessDenied(f"This API key lacks the scope {found.scope}.")
    match = found.pattern.fullmatch(request.scope["path"])
    assert match is not None
    return await found.handle(Caller(principal, request.address), request, *match.groups())


# --- Queries and answers ---------------------------------------------------------------------


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """Part of a list; ``after=last_id`` gives the next one if ``has_more``."""

    data: list[T]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: str = "list"


def page_of(found: Listed[Any], data: list[Any]) -> Page[Any]:
    ids = [found.id_of(row) for row in found.rows[:1] + found.rows[-1:]]
    return Page(
        data=data,
        first_id=ids[0] if ids else None,
        last_id=ids[-1] if ids else None,
        has_more=found.has_more,
    )


def query_of(request: Request, form: type[T]) -> T:
    """The query string as ``form`` says; raises InvalidRequest naming the parameter."""
    raw = request.scope.get("query_string", b"")
    try:
        given = dict(
            parse_qsl(
                raw.decode("utf-8"), keep_blank_values=True, max_num_fields=MOST_QUERY_PARAMETERS
            )
        )
    except ValueError:
        raise InvalidRequest(
            f"A query has at most {MOST_QUERY_PARAMETERS} parameters, in UTF-8."
        ) from None
    try:
        return msgspec.convert(given, form, strict=False)
    except msgspec.ValidationError as error:
        raise malformed(error) from None


def body_of(raw: bytes, form: type[T]) -> T:
    try:
        return msgspec.json.decode(raw, type=form)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(error) from None


def answered(value: Any) -> Response:
    return Response(200, [JSON], msgspec.json.encode(value))
