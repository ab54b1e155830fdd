"""The models that the caller may use, in OpenAI's form."""

from __future__ import annotations

from typing import Any

import msgspec

from api.gateway import Gateway
from inference.errors import ModelNotFound
from inference.registry import ModelEntry


def list_models(gateway: Gateway) -> bytes:
    entries = gateway.registry.snapshot.models.values()
    return msgspec.json.encode({"object": "list", "data": [_model(entry) for entry in entries]})


def get_model(gateway: Gateway, name: str) -> bytes:
    """The model of this name or alias, or ModelNotFound."""
    if not name:
        raise ModelNotFound("The model's name is missing.")
    return msgspec.json.encode(_model(gateway.registry.snapshot.find(name)))


def _model(entry: ModelEntry) -> dict[str, Any]:
    return {
        "id": entry.name,
        "object": "model",
        "created": entry.created,
        "owned_by": entry.owned_by,
        "max_model_len": entry.deployments[0].max_context_tokens,
    }
