"""Rerank, score, tokenize, and embeddings cut to size: what is arithmetic, without a server."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tokenizers import processors

from api.embeddings import handler as embedding_handler
from api.embeddings.handler import check_dimensions, cut_of, shortened
from api.prompts import Cut, encode_inputs
from api.run import Part
from api.scoring.handler import RerankCall, cosines, prepare_rerank
from api.scoring.wire import MOST_DOCUMENTS, decode_rerank, decode_score, sides_of, texts_of
from inference.dispatch import Output
from inference.errors import ContextLengthExceeded, InvalidRequest
from inference.prompts import PromptRenderer
from inference.prompts.folder import PromptFiles
from inference.registry import ModelEntry, Served
from inference.store.facts import matryoshka_dimensions
from tests.api.test_resolve import caller, gateway
from tests.inference.callers import make_served
from tests.inference.tiny_models import tiny_tokenizer


def packed(*vector: float) -> bytes:
    return struct.pack(f"<{len(vector)}f", *vector)


def test_cosines_are_of_pairs_or_of_one_with_all() -> None:
    east, north, west = packed(2, 0), packed(0, 3), packed(-1, 0)
    assert cosines([east], [east, north, west]) == [1.0, 0.0, -1.0]
    assert cosines([east, north], [packed(1, 1), packed(0, 5)]) == [
        pytest.approx(math.sqrt(0.5)),
        1.0,
    ]
    assert cosines([packed(0, 0)], [east]) == [0.0]  # no direction, no likeness


def score(**fields: Any) -> Any:
    return decode_score(json.dumps({"model": "m", **fields}).encode())


@pytest.mark.parametrize(
    "names",
    [("text_1", "text_2"), ("queries", "documents"), ("queries", "items"), ("data_1", "data_2")],
)
def test_sides_have_each_name_that_vllm_gives_them(names: tuple[str, str]) -> None:
    body = score(**{names[0]: "a", names[1]: ["b", {"text": "c"}]})
    assert sides_of(body) == (["a"], ["b", "c"])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "text_1"),
        ({"text_1": "a"}, "text_1"),
        ({"text_1": "a", "documents": ["b"]}, "text_1"),
        ({"text_1": "a", "text_2": "b", "items": ["c"]}, "text_1"),
        ({"queries": ["a", "b"], "documents": ["c"]}, "queries"),
        ({"text_1": "a", "text_2": []}, "text_2"),
        ({"text_1": "", "text_2": "b"}, "text_1"),
        ({"text_1": "a", "text_2": ["b", 3]}, "text_2[1]"),
        ({"text_1": "a", "text_2": [{"image": "c"}]}, "text_2[0].text"),
    ],
)
def test_sides_that_cannot_be_compared_are_named(fields: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        sides_of(score(**fields))
    assert caught.value.param == param


def test_the_number_of_documents_has_a_bound() -> None:
    with pytest.raises(InvalidRequest):
        texts_of(["a"] * (MOST_DOCUMENTS + 1), "text_2")
    body = {"model": "m", "query": "q", "documents": ["a"] * (MOST_DOCUMENTS + 1)}
    with pytest.raises(msgspec.ValidationError):
        decode_rerank(json.dumps(body).encode())


# --- Embeddings cut to size -----------------------------------------------------------------


def test_a_cut_embedding_has_length_one() -> None:
    cut = struct.unpack("<2f", shortened(packed(0.3, 0.4, 0.5, 0.7), 2))
    assert cut == (pytest.approx(0.6), pytest.approx(0.8))


def embedding_model(sizes: frozenset[int] | None) -> Served:
    return replace(make_served(), embedding_dimensions=8, cut_dimensions=sizes)


@pytest.mark.parametrize(
    ("sizes", "allowed", "refused"),
    [
        (None, [None, 8], [4, 9]),
        (frozenset(), [None, 1, 7, 8], [9, 100]),
        (frozenset({2, 4}), [None, 2, 4, 8], [3, 9]),
    ],
)
def test_dimensions_are_those_that_the_model_was_trained_for(
    sizes: Any, allowed: list[int | None], refused: list[int]
) -> None:
    for dimensions in allowed:
        check_dimensions(dimensions, embedding_model(sizes))
    for dimensions in refused:
        with pytest.raises(InvalidRequest) as caught:
            check_dimensions(dimensions, embedding_model(sizes))
        assert caught.value.param == "dimensions"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, None),
        ({"is_matryoshka": False}, None),
        ({"is_matryoshka": True}, frozenset()),
        ({"matryoshka_dimensions": [64, 128]}, frozenset({64, 128})),
        ({"matryoshka_dimensions": "many"}, None),
    ],
)
def test_a_models_config_says_whether_its_embeddings_can_be_cut(
    tmp_path: Path, config: dict[str, Any], expected: Any
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert matryoshka_dimensions(tmp_path) == expected


# --- Inputs cut to size -----------------------------------------------------------------------


async def test_inputs_are_cut_at_either_end_or_refused() -> None:
    served = replace(make_served(), max_context_tokens=4)
    long = "a b a b a a"

    async def ids(item: str | list[int], cut: Cut | None) -> list[int]:
        (encoded,) = await encode_inputs([item], served, 1, "input", cut=cut)
        return encoded

    assert await ids(long, Cut(3)) == [1, 2, 1]
    assert await ids(long, Cut(3, keeps_end=True)) == [2, 1, 1]
    assert await ids([1, 2, 2, 1, 1], Cut(3)) == [1, 2, 2]
    assert await ids([1, 2, 2, 1, 1], Cut(3, keeps_end=True)) == [2, 1, 1]
    assert await ids("a b", Cut(3)) == [1, 2]
    with pytest.raises(ContextLengthExceeded):
        await ids(long, None)


def test_special_tokens_survive_a_cut() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens(["[CLS]", "[SEP]"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 3), ("[SEP]", 4)]
    )
    renderer = PromptRenderer(PromptFiles(tokenizer.to_str(), {}, {}, frozenset(), 128))
    ids = renderer.tokenize("a b a b b", True, scope=1)
    assert ids == [3, 1, 2, 1, 2, 2, 4]
    tokenizer.enable_truncation(4)
    assert renderer.cut(ids, 4) == tokenizer.encode("a b a b b").ids == [3, 1, 2, 4]
    tokenizer.enable_truncation(4, direction="left")
    expected = tokenizer.encode("a b a b b").ids
    assert renderer.cut(ids, 4, keeps_end=True) == expected == [3, 2, 2, 4]
    assert renderer.cut(ids, 7) == ids


@pytest.mark.parametrize(
    ("tokens", "side", "expected"),
    [(None, None, None), (-1, None, Cut(128)), (5, "left", Cut(5, keeps_end=True))],
)
def test_truncation_is_asked_for_as_at_vllm(tokens: Any, side: Any, expected: Any) -> None:
    assert cut_of(tokens, side, make_served()) == expected


@pytest.mark.parametrize("tokens", [0, 129])
def test_truncation_has_the_context_as_its_bound(tokens: int) -> None:
    with pytest.raises(InvalidRequest):
        cut_of(tokens, None, make_served())


# --- Models that read both texts at once ---------------------------------------------------------


def pair_renderer() -> PromptRenderer:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens(["[CLS]", "[SEP]"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 3), ("[SEP]", 4)],
    )
    return PromptRenderer(PromptFiles(tokenizer.to_str(), {}, {}, frozenset(), 128))


@pytest.fixture
def pairing() -> Any:
    """A gateway with a cross-encoder whose context is 8 tokens."""
    served = replace(
        make_served(1), renderer=pair_renderer(), max_context_tokens=8, is_cross_encoder=True
    )
    return gateway(ModelEntry("m", "embedding", "sluice", 0, None, (served,)), ready={1})


async def reranked(pairing: Any, **fields: Any) -> RerankCall:
    body = {"model": "m", "query": "a", "documents": ["b a", "b"], **fields}
    return await prepare_rerank(pairing, caller(), json.dumps(body).encode(), "r1", 0.0)


class Scored:
    """In a run's place: what the engine made of each pair."""

    def __init__(self, *scores: float):
        self._scores = scores

    async def parts(self) -> AsyncIterator[Part]:
        for index, score in reversed(list(enumerate(self._scores))):
            yield Part(index, Output([], "", finish_reason="stop", embedding=packed(score)))


async def test_a_cross_encoder_is_given_each_pair_and_its_scores_are_told(pairing: Any) -> None:
    call = await reranked(pairing)
    assert call.plan.prompts == [[3, 1, 4, 2, 1, 4], [3, 1, 4, 2, 4]]
    assert call.plan.pairs_at == [3, 3]
    answer = json.loads(await call.whole(Scored(0.25, 0.75)))  # type: ignore[arg-type]
    assert answer["scoring"] == "cross-encoder"
    assert [(r["index"], r["relevance_score"]) for r in answer["results"]] == [(1, 0.75), (0, 0.25)]
    assert answer["usage"]["total_tokens"] == 11


async def test_texts_of_a_pair_are_cut_each_by_its_own_bound(pairing: Any) -> None:
    long = {"query": "a b a b a b", "documents": ["b b b b b b b b b"]}
    call = await reranked(pairing, **long, max_tokens_per_query=2, max_tokens_per_doc=3)
    assert call.plan.prompts == [[3, 1, 2, 4, 2, 2, 2, 4]]
    call = await reranked(pairing, documents=long["documents"], truncate_prompt_tokens=-1)
    assert len(call.plan.prompts[0]) <= 8


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"query": "a b " * 9}, "query"),
        ({"documents": ["b", "b b b b b b"]}, "documents[1]"),
    ],
)
async def test_a_pair_that_does_not_fit_is_named(pairing: Any, fields: Any, param: str) -> None:
    with pytest.raises(ContextLengthExceeded) as caught:
        await reranked(pairing, **fields)
    assert caught.value.param == param


async def test_a_cross_encoder_embeds_nothing(pairing: Any) -> None:
    body = json.dumps({"model": "m", "input": "a"}).encode()
    with pytest.raises(InvalidRequest) as caught:
        await embedding_handler.prepare(pairing, caller(), body, "r1", 0.0)
    assert caught.value.param == "model"
