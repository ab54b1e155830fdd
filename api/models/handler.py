"""The models that the caller may use, in OpenAI's form."""

from __future__ import annotations

from typing import Any

import msgspec

from api.gateway import Gateway
from api.resolve import find_model, usable_deployments
from inference.errors import ModelNotFound
from inference.registry import ModelEntry, Served
from tenants.principal import Principal


def list_models(gateway: Gateway, principal: Principal) -> bytes:
    snapshot = gateway.registry.snapshot
    models = [
        _model(entry, usable)
        for entry in snapshot.models.values()
        if (usable := usable_deployments(snapshot, entry, principal))
    ]
    return msgspec.json.encode({"object": "list", "data": models})


def get_model(gateway: Gateway, principal: Principal, name: str) -> bytes:
    """The model of this name or alias, or ModelNotFound."""
    if not name:
        raise ModelNotFound("The model's name is missing.")
    return msgspec.json.encode(_model(*find_model(gateway, name, principal)))


def _model(entry: ModelEntry, usable: list[Served]) -> dict[str, Any]:
    return {
        "id": entry.name,
        "object": "model",
        "created": entry.created,
        "owned_by": entry.owned_by,
        "max_model_len": usable[0].max_context_tokens,
    }
