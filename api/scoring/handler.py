"""How alike texts are, as vLLM's server scores: by a cross-encoder or a bi-encoder.

With an embedding model the texts run as embeddings do, the query once however many
documents there are, and their vectors are compared here: ``"scoring": "cosine"``. A model
that reads both texts at once gives a score for each pair: ``"scoring": "cross-encoder"``.
"""

from __future__ import annotations

import asyncio
import math
import struct
import time
from typing import Any

import msgspec

from api.controls import DEFAULT, Controls
from api.errors import decoded
from api.gateway import Gateway
from api.parameters import refuse, tier_name, tier_of
from api.plan import Plan
from api.prompts import Cut, encode_inputs
from api.resolve import resolve, stands_in_for
from api.run import Run
from api.scoring.wire import (
    RerankRequest,
    ScoringFields,
    decode_rerank,
    decode_score,
    sides_of,
    text_of,
)
from inference.errors import ContextLengthExceeded, InvalidRequest
from inference.models import Model
from inference.registry import Served
from tenants.principal import Principal

# Comparing two of 384 numbers takes 15 µs: above this many pairs a thread does it.
QUICK_PAIRS = 50


def cosines(left: list[bytes], right: list[bytes]) -> list[float]:
    """Of each pair of little-endian float32 vectors; one on the left is paired with all."""
    lefts = [_vector(raw) for raw in left]
    if len(lefts) == 1:
        lefts *= len(right)
    return [_cosine(one, _vector(raw)) for one, raw in zip(lefts, right, strict=True)]


def _vector(raw: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(raw) // 4}f", raw)


def _cosine(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    lengths = math.hypot(*one) * math.hypot(*other)
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    return dot / lengths if lengths else 0.0


class ScoringCall:
    """A validated request: its prompts are pairs, or the first ``lefts`` are compared with
    the rest."""

    is_stream = False

    def __init__(self, body: ScoringFields, plan: Plan, lefts: int):
        self.plan = plan
        self._lefts = lefts
        self._tier = {"service_tier": tier_name(plan.tier)} if body.service_tier else {}

    async def scores(self, run: Run) -> list[float]:
        vectors = [b""] * len(self.plan.prompts)
        async for part in run.parts():
            vectors[part.index] = part.output.embedding
        if self.plan.pairs_at is not None:
            return [_vector(raw)[0] for raw in vectors]
        left, right = vectors[: self._lefts], vectors[self._lefts :]
        if len(right) <= QUICK_PAIRS:
            return cosines(left, right)
        return await asyncio.to_thread(cosines, left, right)

    @property
    def _scoring(self) -> str:
        return "cosine" if self.plan.pairs_at is None else "cross-encoder"

    @property
    def _usage(self) -> dict[str, int]:
        tokens = self.plan.prompt_tokens
        return {"prompt_tokens": tokens, "total_tokens": tokens}


class ScoreCall(ScoringCall):
    async def whole(self, run: Run) -> bytes:
        scores = await self.scores(run)
        return msgspec.json.encode(
            {
                "id": f"score-{self.plan.request_id}",
                "object": "list",
                "created": int(time.time()),
                "model": self.plan.entry.name,
                "scoring": self._scoring,
                "data": [
                    {"index": index, "object": "score", "score": score}
                    for index, score in enumerate(scores)
                ],
                "usage": self._usage,
                **self._tier,
            }
        )


class RerankCall(ScoringCall):
    def __init__(
        self, body: RerankRequest, plan: Plan, documents: list[str], *, is_second_version: bool
    ):
        super().__init__(body, plan, 1)
        self._top_n = body.top_n or len(documents)
        self._documents = documents
        self._is_second_version = is_second_version
        # Cohere's second version has none; all others give them unless told not to.
        self._with_documents = body.return_documents is not False and (
            not is_second_version or body.return_documents is True
        )

    async def whole(self, run: Run) -> bytes:
        scores = await self.scores(run)
        # Of equal ones the earlier document comes first.
        order = sorted(range(len(scores)), key=lambda index: -scores[index])[: self._top_n]
        answer: dict[str, Any] = {
            "id": f"rerank-{self.plan.request_id}",
            "model": self.plan.entry.name,
            "scoring": self._scoring,
            "results": [self._result(index, scores[index]) for index in order],
            "usage": self._usage,
            **self._tier,
        }
        if self._is_second_version:
            billed = {"input_tokens": self.plan.prompt_tokens}
            answer["meta"] = {"api_version": {"version": "2"}, "billed_units": billed}
        return msgspec.json.encode(answer)

    def _result(self, index: int, score: float) -> dict[str, Any]:
        result: dict[str, Any] = {"index": index, "relevance_score": score}
        if self._with_documents:
            result["document"] = {"text": self._documents[index]}
        return result


# --- Preparing --------------------------------------------------------------------------------


async def prepare_score(
    gateway: Gateway,
    principal: Principal,
    raw: bytes,
    request_id: str,
    started_at: float,
    controls: Controls = DEFAULT,
) -> ScoreCall:
    body = decoded(decode_score, raw)
    left, right = sides_of(body)
    plan = await _plan(
        gateway, principal, body, left, right, request_id, started_at, controls, "score"
    )
    return ScoreCall(body, plan, len(left))


async def prepare_rerank(
    gateway: Gateway,
    principal: Principal,
    raw: bytes,
    request_id: str,
    started_at: float,
    controls: Controls = DEFAULT,
    *,
    is_second_version: bool = False,
) -> RerankCall:
    body = decoded(decode_rerank, raw)
    refuse(rank_fields=body.rank_fields, max_chunks_per_doc=body.max_chunks_per_doc)
    query = text_of(body.query, "query")
    documents = [text_of(item, f"documents[{index}]") for index, item in enumerate(body.documents)]
    plan = await _plan(
        gateway, principal, body, [query], documents, request_id, started_at, controls, "rerank"
    )
    return RerankCall(body, plan, documents, is_second_version=is_second_version)


async def prepare_second_rerank(
    gateway: Gateway,
    principal: Principal,
    raw: bytes,
    request_id: str,
    started_at: float,
    controls: Controls = DEFAULT,
) -> RerankCall:
    """``/v2/rerank``, in the form of Cohere's second version."""
    return await prepare_rerank(
        gateway, principal, raw, request_id, started_at, controls, is_second_version=True
    )


async def _plan(
    gateway: Gateway,
    principal: Principal,
    body: ScoringFields,
    left: list[str],
    right: list[str],
    request_id: str,
    started_at: float,
    controls: Controls,
    endpoint: str,
) -> Plan:
    refuse(
        priority=body.priority,
        instruction=body.instruction,
        chat_template_kwargs=body.chat_template_kwargs,
        use_activation=body.use_activation,
    )
    tier = tier_of(body.service_tier, principal)
    entry, candidates = resolve(
        gateway, body.model, Model.Kind.EMBEDDING, principal, tier, controls
    )
    served, scope = candidates[0], principal.organization
    names = ("query", "documents") if endpoint == "rerank" else ("text_1", "text_2")
    cuts = (
        _cut(body.max_tokens_per_query, body.truncate_prompt_tokens, served),
        _cut(body.max_tokens_per_doc, body.truncate_prompt_tokens, served),
    )
    prompts: list[list[int]] = []
    pairs_at: list[int] | None = None
    if served.is_cross_encoder:
        prompts, pairs_at = await _pairs(body, left, right, served, scope, names)
    else:
        for texts, cut, name in zip((left, right), cuts, names, strict=True):
            prompts += await encode_inputs(list(texts), served, scope, name, cut=cut)
    return Plan(
        request_id=request_id,
        endpoint=endpoint,
        principal=principal,
        entry=entry,
        candidates=candidates,
        prompts=prompts,
        sampling=None,
        pairs_at=pairs_at,
        screened_text="\n".join([*left, *right]),
        tier=tier,
        controls=controls,
        stands_in_for=stands_in_for(gateway, body.model, entry),
        started_at=started_at,
    )


async def _pairs(
    body: ScoringFields,
    left: list[str],
    right: list[str],
    served: Served,
    scope: int,
    names: tuple[str, str],
) -> tuple[list[list[int]], list[int]]:
    """Ids of each pair, and where its second text begins."""
    context = served.max_context_tokens
    # First texts are read with each second one: what is too long shows before that.
    firsts = await encode_inputs(
        list(left), served, scope, names[0],
        cut=Cut(context) if body.max_tokens_per_query else None,
    )  # fmt: skip
    most_second = body.max_tokens_per_doc or None
    if body.truncate_prompt_tokens is not None:
        whole = context if body.truncate_prompt_tokens == -1 else body.truncate_prompt_tokens
        room = max(1, whole - max(map(len, firsts)) - 2)  # and the tokens around it
        most_second = min(room, most_second or room)
    lefts = left * len(right) if len(left) == 1 else left
    most = (body.max_tokens_per_query or None, most_second)
    found = await served.renderer.encode_pairs(list(zip(lefts, right, strict=True)), most)
    for index, (ids, _) in enumerate(found):
        if len(ids) > context:
            raise ContextLengthExceeded(
                f"This model's maximum context length is {context} tokens. However, this text and "
                f"the one it is compared with have {len(ids)} tokens. Please reduce their length.",
                param=f"{names[1]}[{index}]",
            )
    return [ids for ids, _ in found], [at for _, at in found]


def _cut(most: int | None, truncation: int | None, served: Served) -> Cut | None:
    """By the stricter of the two; a text's own bound may be above the context."""
    context = served.max_context_tokens
    if truncation is not None and (truncation == 0 or truncation > context):
        raise InvalidRequest(
            f"It is -1, or 1 to {context} tokens, this model's context.",
            param="truncate_prompt_tokens",
        )
    bounds = [bound for bound in (most, truncation) if bound]
    if not bounds:
        return None
    return Cut(min(context, *(context if bound == -1 else bound for bound in bounds)))
