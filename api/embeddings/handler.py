"""Embeddings: wire types and handler."""

from __future__ import annotations

import base64
import struct
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from api.controls import DEFAULT, Controls
from api.errors import malformed
from api.gateway import Gateway
from api.parameters import tier_name, tier_of
from api.plan import Plan
from api.prompts import encode_inputs, split_inputs
from api.resolve import resolve, stands_in_for
from api.run import Run
from inference.errors import InvalidRequest
from inference.models import Model
from tenants.principal import Principal

ENDPOINT = "embeddings"
MOST_INPUTS = 2_048


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    model: Annotated[str, Meta(min_length=1, max_length=200)]
    input: str | list[Any]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    user: Annotated[str, Meta(max_length=512)] | None = None
    service_tier: str | None = None


_decode = msgspec.json.Decoder(EmbeddingRequest).decode


class EmbeddingCall:
    is_stream = False

    def __init__(self, body: EmbeddingRequest, plan: Plan):
        self.plan = plan
        self._tier = {"service_tier": tier_name(plan.tier)} if body.service_tier else {}
        self._is_base64 = body.encoding_format == "base64"

    async def whole(self, run: Run) -> bytes:
        """The list of embedding objects."""
        vectors = [b""] * len(self.plan.prompts)
        async for part in run.parts():
            vectors[part.index] = part.output.embedding
        tokens = self.plan.prompt_tokens
        return msgspec.json.encode(
            {
                "object": "list",
                "data": [
                    {
                        "object": "embedding",
                        "index": index,
                        "embedding": self._vector(raw),
                    }
                    for index, raw in enumerate(vectors)
                ],
                "model": self.plan.entry.name,
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
                **self._tier,
            }
        )

    def _vector(self, raw: bytes) -> str | tuple[float, ...]:
        if self._is_base64:
            return base64.b64encode(raw).decode()
        return struct.unpack(f"<{len(raw) // 4}f", raw)


async def prepare(
    gateway: Gateway,
    principal: Principal,
    raw: bytes,
    request_id: str,
    started_at: float,
    controls: Controls = DEFAULT,
) -> EmbeddingCall:
    """Steps 2 to 4: validate, resolve, count."""
    try:
        body = _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(error) from None
    tier = tier_of(body.service_tier, principal)
    entry, candidates = resolve(
        gateway, body.model, Model.Kind.EMBEDDING, principal, tier, controls
    )
    served = candidates[0]
    if body.dimensions not in (None, served.embedding_dimensions):
        raise InvalidRequest(
            f"This model's embeddings have {served.embedding_dimensions} dimensions and cannot "
            "be shortened.",
            param="dimensions",
        )
    inputs = split_inputs(body.input, "input", MOST_INPUTS)
    plan = Plan(
        request_id=request_id,
        endpoint=ENDPOINT,
        principal=principal,
        entry=entry,
        candidates=candidates,
        prompts=await encode_inputs(inputs, served, principal.organization, "input"),
        sampling=None,
        screened_text="\n".join(item for item in inputs if isinstance(item, str)),
        tier=tier,
        controls=controls,
        stands_in_for=stands_in_for(gateway, body.model, entry),
        started_at=started_at,
    )
    return EmbeddingCall(body, plan)
