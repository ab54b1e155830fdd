"""What a method of the management API needs and gives, declared where it is written.

``@operation(permission, …)`` is read by three: the view asks the permission, parses
what is declared and encodes the answer; the OpenAPI document is made of it; and the
matrix test fails on a method without one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import msgspec
from django.http import HttpRequest, HttpResponse, QueryDict

from api.errors import MalformedBody, malformed
from api.http import BodyTooLarge, UnsupportedContentType
from api.management.wire import Body

# Ten times the largest body that makes sense: 200 model names, 100 networks.
MOST_BYTES = 256 * 1024
_ENCODER = msgspec.json.Encoder(decimal_format="number")


@dataclass(frozen=True)
class Operation:
    permission: str
    answer: Any
    body: type[Body] | None
    query: type[Body] | None
    summary: str
    unsupported: bool = False


def operation(
    permission: str,
    *,
    answer: Any,
    body: type[Body] | None = None,
    query: type[Body] | None = None,
    unsupported: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., HttpResponse]]:
    """The method gets ``body`` and ``query`` by name, if declared, and the ids of its path."""

    def declare(method: Callable[..., Any]) -> Callable[..., HttpResponse]:
        summary = (method.__doc__ or "").strip().partition("\n")[0]
        declared = Operation(permission, answer, body, query, summary, unsupported)

        @wraps(method)
        def respond(view: Any, request: Any, **ids: str) -> HttpResponse:
            view.actor.check(permission)
            return view.answer(
                request, declared, lambda: _work(method, view, request, declared, ids)
            )  # type: ignore[no-any-return]

        respond.operation = declared  # type: ignore[attr-defined]
        return respond

    return declare


def _work(
    method: Callable[..., Any], view: Any, request: Any, declared: Operation, ids: dict[str, str]
) -> bytes:
    given: dict[str, Any] = dict(ids)
    if declared.query is not None:
        given["query"] = read_query(request.query_params, declared.query)
    else:
        read_query(request.query_params, Body)
    if declared.body is not None:
        given["body"] = read_body(request._request, declared.body)
    return _ENCODER.encode(method(view, **given))


def read_body(request: HttpRequest, form: type[Body]) -> Body:
    raw = bounded_body(request)
    if not raw and not form.__struct_fields__:
        return form()
    if (request.content_type or "").lower() != "application/json":
        raise UnsupportedContentType(
            "Send the request's body as JSON with the header 'Content-Type: application/json'."
        )
    if not raw:
        raise MalformedBody("The request has no body. Send a JSON object.")
    try:
        return msgspec.json.decode(raw, type=form)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(error) from None


def bounded_body(request: HttpRequest) -> bytes:
    declared = request.META.get("CONTENT_LENGTH") or ""
    if declared.isdigit() and int(declared) > MOST_BYTES:
        raise too_large()
    body = request.read(MOST_BYTES + 1) if not hasattr(request, "_body") else request.body
    if len(body) > MOST_BYTES:
        raise too_large()
    request._body = body
    return body


def too_large() -> BodyTooLarge:
    return BodyTooLarge(f"The request's body is larger than {MOST_BYTES} bytes.")


def read_query(given: QueryDict, form: type[Body]) -> Body:
    """``a=1``, ``a[]=1&a[]=2`` and ``a[gt]=1``, as OpenAI's clients write them."""
    fields = {field.name: field for field in msgspec.structs.fields(form)}
    values: dict[str, Any] = {}
    for name, texts in given.lists():
        base, _, key = name.partition("[")
        key = key.rstrip("]")
        if base not in fields:
            raise malformed(msgspec.ValidationError(f"Object contains unknown field `{name}`"))
        if key:
            nested = values.get(base)
            values[base] = (nested if isinstance(nested, dict) else {}) | {key: texts[-1]}
        elif _is_list(fields[base].type):
            earlier = values.get(base)
            values[base] = (earlier if isinstance(earlier, list) else []) + texts
        else:
            values[base] = texts[-1]
    try:
        return msgspec.convert(values, form, strict=False)
    except msgspec.ValidationError as error:
        raise malformed(error) from None


def _is_list(kind: Any) -> bool:
    return "list" in str(kind).lower()


def methods_of(view: type) -> Iterable[tuple[str, Operation | None]]:
    """Each HTTP method that a view answers, and what it declares."""
    for method in ("get", "post", "delete"):
        if (handler := getattr(view, method, None)) is not None:
            yield method, getattr(handler, "operation", None)
