"""Embeddings: wire types and handler."""

from __future__ import annotations

import base64
import math
import struct
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from api.controls import DEFAULT, Controls
from api.errors import decoded
from api.gateway import Gateway
from api.parameters import tier_name, tier_of
from api.plan import Plan
from api.prompts import Cut, encode_inputs, split_inputs
from api.resolve import resolve, stands_in_for
from api.run import Run
from inference.errors import InvalidRequest
from inference.models import Model
from inference.registry import Served
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
    # vLLM's.
    add_special_tokens: bool | None = None
    truncate_prompt_tokens: Annotated[int, Meta(ge=-1)] | None = None
    truncation_side: Literal["left", "right"] | None = None


_decode = msgspec.json.Decoder(EmbeddingRequest).decode


class EmbeddingCall:
    is_stream = False

    def __init__(self, body: EmbeddingRequest, plan: Plan):
        self.plan = plan
        self._tier = {"service_tier": tier_name(plan.tier)} if body.service_tier else {}
        self._is_base64 = body.encoding_format == "base64"
        own = plan.candidates[0].embedding_dimensions
        self._dimensions = body.dimensions if body.dimensions != own else None

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
        if self._dimensions is not None:
            raw = shortened(raw, self._dimensions)
        if self._is_base64:
            return base64.b64encode(raw).decode()
        return struct.unpack(f"<{len(raw) // 4}f", raw)


def shortened(raw: bytes, dimensions: int) -> bytes:
    """The first dimensions of an embedding, of length 1 again, as vLLM cuts it."""
    vector = struct.unpack_from(f"<{dimensions}f", raw)
    length = math.hypot(*vector) or 1.0
    return struct.pack(f"<{dimensions}f", *(part / length for part in vector))


def check_dimensions(dimensions: int | None, served: Served) -> None:
    own, sizes = served.embedding_dimensions, served.cut_dimensions
    if dimensions in (None, own):
        return
    if sizes is None:
        raise InvalidRequest(
            f"This model's embeddings have {own} dimensions and cannot be shortened.",
            param="dimensions",
        )
    if dimensions not in (sizes or range(1, (own or 0) + 1)):
        known = ", ".join(map(str, sorted(sizes))) or f"1 to {own}"
        raise InvalidRequest(
            f"This model's embeddings have {known} dimensions.", param="dimensions"
        )


def cut_of(tokens: int | None, side: str | None, served: Served) -> Cut | None:
    """vLLM's ``truncate_prompt_tokens``: -1 is the model's context."""
    if tokens is None:
        return None
    most = served.max_context_tokens
    if tokens == 0 or tokens > most:
        raise InvalidRequest(
            f"It is -1, or 1 to {most} tokens, this model's context.",
            param="truncate_prompt_tokens",
        )
    return Cut(most if tokens == -1 else tokens, keeps_end=side == "left")


async def prepare(
    gateway: Gateway,
    principal: Principal,
    raw: bytes,
    request_id: str,
    started_at: float,
    controls: Controls = DEFAULT,
) -> EmbeddingCall:
    """Steps 2 to 4: validate, resolve, count."""
    body = decoded(_decode, raw)
    tier = tier_of(body.service_tier, principal)
    entry, candidates = resolve(
        gateway, body.model, Model.Kind.EMBEDDING, principal, tier, controls
    )
    served = candidates[0]
    if served.is_cross_encoder:
        raise InvalidRequest(
            f"The model `{body.model}` scores pairs of texts and embeds none.", param="model"
        )
    check_dimensions(body.dimensions, served)
    inputs = split_inputs(body.input, "input", MOST_INPUTS)
    plan = Plan(
        request_id=request_id,
        endpoint=ENDPOINT,
        principal=principal,
        entry=entry,
        candidates=candidates,
        prompts=await encode_inputs(
            inputs,
            served,
            principal.organization,
            "input",
            body.add_special_tokens is not False,
            cut_of(body.truncate_prompt_tokens, body.truncation_side, served),
        ),
        sampling=None,
        screened_text="\n".join(item for item in inputs if isinstance(item, str)),
        tier=tier,
        controls=controls,
        stands_in_for=stands_in_for(gateway, body.model, entry),
        started_at=started_at,
    )
    return EmbeddingCall(body, plan)
