"""The official client, read: its methods with the calls that they make, and its parameters.

Its types are generated from OpenAI's own specification, and so are its calls.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_type_hints

import openai
from openai.types import completion_create_params, embedding_create_params
from openai.types.chat import completion_create_params as chat_params
from openai.types.responses import response_create_params

_CALLS = {
    "_get": "GET", "_get_api_list": "GET", "_post": "POST", "_put": "PUT", "_patch": "PATCH",
    "_delete": "DELETE",
}  # fmt: skip
_VIEWS = {"with_raw_response", "with_streaming_response"}  # the same methods again
PARAMETERS = {
    "/v1/chat/completions": chat_params.CompletionCreateParamsBase,
    "/v1/completions": completion_create_params.CompletionCreateParamsBase,
    "/v1/embeddings": embedding_create_params.EmbeddingCreateParams,
    "/v1/responses": response_create_params.ResponseCreateParamsBase,
}


@dataclass(frozen=True)
class SdkMethod:
    """``path`` is empty where it makes no call of its own, but through other methods."""

    name: str  # as in client.chat.completions.create
    method: str
    path: str


def version() -> str:
    return str(openai.__version__)


def methods() -> list[SdkMethod]:
    client = openai.OpenAI(api_key="none", admin_api_key="none")
    try:
        return sorted(_methods(client, ""), key=lambda each: each.name)
    finally:
        client.close()


def _methods(owner: Any, at: str) -> Iterator[SdkMethod]:
    for name, member in vars(type(owner)).items():
        if name.startswith("_") or name in _VIEWS:
            continue
        if isinstance(member, cached_property | property):
            child = getattr(owner, name)
            if type(child).__module__.startswith("openai.resources"):
                yield from _methods(child, f"{at}{name}.")
        elif at and callable(member):
            yield SdkMethod(f"{at}{name}", *_call_of(member))


def _call_of(member: Any) -> tuple[str, str]:
    """Method and path of the one call in its source."""
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(member)))
    for node in ast.walk(ast.parse(source)):
        called = getattr(getattr(node, "func", None), "attr", "")
        if isinstance(node, ast.Call) and called in _CALLS and node.args:
            method = _CALLS[called]
            for keyword in node.keywords:
                if keyword.arg == "method":
                    method = str(ast.literal_eval(keyword.value)).upper()
            texts = [n.value for n in ast.walk(node.args[0]) if isinstance(n, ast.Constant)]
            return method, f"/v1{str(texts[0]).partition('?')[0]}"
    return "", ""


def parameters(path: str) -> list[str]:
    """Of the body that this endpoint's method sends, streamed or not."""
    found = {*get_type_hints(PARAMETERS[path])}
    return sorted(found | ({"stream"} if path != "/v1/embeddings" else set()))
