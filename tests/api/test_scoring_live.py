"""Rerank, score, embeddings and counting through the doors, on the simulated engine."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.api.test_keys_and_limits import new_key
from tests.harness.platform import CHAT_MODEL, EMBEDDING_MODEL, Platform

MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]
PAIR = {"model": EMBEDDING_MODEL, "text_1": "a cat", "text_2": ["a cat", "a house", "the sky"]}
RERANK = {"model": EMBEDDING_MODEL, "query": "a cat", "documents": ["a house", "a cat", "a cat"]}


def post(platform: Platform, path: str, body: dict[str, Any], key: str = "") -> Any:
    with platform.http(key) as client:
        return client.post(path, json=body)


def test_a_reranking_is_in_order_and_billed_as_what_was_read(simulated: Platform) -> None:
    answer = post(simulated, "/v1/rerank", {**RERANK, "top_n": 2})
    found = answer.json()
    assert [result["index"] for result in found["results"]] == [1, 2]  # of equals, the first
    assert found["results"][0]["document"] == {"text": "a cat"}
    assert found["results"][0]["relevance_score"] == pytest.approx(1)
    assert found["scoring"] == "cosine"
    row = simulated.usage_row(
        answer.headers["x-request-id"], "prompt_tokens, completion_tokens, endpoint, status"
    )
    assert row == (found["usage"]["total_tokens"], 0, "rerank", "completed")
    inputs = [RERANK["query"], *RERANK["documents"]]
    embedded = simulated.openai().embeddings.create(model=EMBEDDING_MODEL, input=inputs)
    assert found["usage"]["total_tokens"] == embedded.usage.total_tokens


def test_each_client_finds_its_form(simulated: Platform) -> None:
    first = post(simulated, "/rerank", {**RERANK, "return_documents": False}).json()
    second = post(simulated, "/v2/rerank", RERANK).json()
    for found in (first, second):
        assert [result["index"] for result in found["results"]] == [1, 2, 0]
        assert "document" not in found["results"][0]
    assert second["meta"]["api_version"] == {"version": "2"}
    scores = post(simulated, "/score", PAIR).json()
    assert scores == {**post(simulated, "/v1/score", PAIR).json(), "id": scores["id"]} | {
        "created": scores["created"]
    }
    assert [row["index"] for row in scores["data"]] == [0, 1, 2]
    assert scores["data"][0]["score"] == pytest.approx(1)
    assert scores["data"][1]["score"] < 0.9


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/rerank", {**RERANK, "model": CHAT_MODEL}, "model"),
        ("/v1/rerank", {**RERANK, "documents": []}, "documents"),
        ("/v1/rerank", {**RERANK, "documents": ["a " * 400]}, "documents"),
        ("/v1/rerank", {**RERANK, "documents": ["a", "a " * 400]}, "documents[1]"),
        ("/v1/rerank", {**RERANK, "top_n": -1}, "top_n"),
        ("/v1/score", {**PAIR, "instruction": "Compare."}, "instruction"),
        ("/v1/embeddings", {"model": EMBEDDING_MODEL, "input": "a", "dimensions": 8}, "dimensions"),
        ("/v1/tokenize", {"model": CHAT_MODEL}, "prompt"),
        ("/tokenize", {"model": CHAT_MODEL, "prompt": "a", "messages": MESSAGES}, "prompt"),
        ("/tokenize", {"model": CHAT_MODEL, "prompt": "a", "chat_template": "x"}, "chat_template"),
        ("/detokenize", {"model": CHAT_MODEL, "tokens": [1, 10**9]}, "tokens[1]"),
        ("/detokenize", {"model": CHAT_MODEL, "tokens": [-1]}, "tokens[0]"),
        ("/v1/detokenize", {"model": "nothing", "tokens": [1]}, "model"),
    ],
)
def test_what_is_wrong_is_named(simulated: Platform, path: str, body: Any, param: str) -> None:
    answer = post(simulated, path, body)
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["param"] == param


def test_long_texts_are_cut_where_it_is_asked(simulated: Platform) -> None:
    long = ["a " * 400, "b " * 300]
    cut = post(simulated, "/v1/rerank", {**RERANK, "documents": long, "max_tokens_per_doc": 10})
    assert cut.status_code == 200
    options = {"model": EMBEDDING_MODEL, "input": long}
    whole = {**options, "truncate_prompt_tokens": -1}
    assert post(simulated, "/v1/embeddings", whole).json()["usage"]["total_tokens"] == 2 * 256
    assert post(simulated, "/v1/embeddings", options).status_code == 400


def test_embeddings_by_the_official_client(simulated: Platform) -> None:
    """Base64, which it asks for by itself, floats, and token ids in both forms."""
    client = simulated.openai()
    tokens = post(simulated, "/tokenize", {"model": EMBEDDING_MODEL, "prompt": "a cat"}).json()
    by_text = client.embeddings.create(model=EMBEDDING_MODEL, input="a cat", user="u")
    for value in (tokens["tokens"], [tokens["tokens"]]):
        by_ids = client.embeddings.create(
            model=EMBEDDING_MODEL, input=value, encoding_format="float"
        )
        assert by_ids.data[0].embedding == pytest.approx(by_text.data[0].embedding)
        assert by_ids.usage == by_text.usage
    many = client.embeddings.create(model=EMBEDDING_MODEL, input=["a"] * 2_048)
    assert [item.index for item in many.data] == list(range(2_048))
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model=EMBEDDING_MODEL, input=["a"] * 2_049)


def test_counting_is_what_the_request_counts(simulated: Platform) -> None:
    chat = simulated.openai().chat.completions.create(
        model=CHAT_MODEL, messages=MESSAGES, max_tokens=1
    )
    assert chat.usage is not None
    body = {"model": CHAT_MODEL, "messages": MESSAGES, "return_token_strs": True}
    counted = post(simulated, "/v1/tokenize", body).json()
    assert counted["count"] == len(counted["tokens"]) == chat.usage.prompt_tokens
    assert len(counted["token_strs"]) == counted["count"]
    assert counted["max_model_len"] == 4096
    back = post(simulated, "/detokenize", {"model": CHAT_MODEL, "tokens": counted["tokens"]})
    assert MESSAGES[0]["content"] in back.json()["prompt"]
    text = {"model": CHAT_MODEL, "prompt": "Straße, 東京"}
    ids = post(simulated, "/tokenize", text).json()["tokens"]
    back = post(simulated, "/v1/detokenize", {"model": CHAT_MODEL, "tokens": ids})
    assert back.json() == {"prompt": text["prompt"]}


def test_counting_costs_nothing_but_is_held_to_rates_and_scopes(simulated: Platform) -> None:
    key, _ = new_key(simulated, "few", "requests_per_minute=3")
    body = {"model": CHAT_MODEL, "prompt": "a"}
    answers = [post(simulated, "/tokenize", body, key) for _ in range(6)]
    assert {answer.status_code for answer in answers} == {200, 429}
    refused = answers[-1]
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert int(refused.headers["retry-after-ms"]) > 0
    limited, _ = new_key(simulated, "scoped", "scopes=['inference.embeddings']")
    denied = post(simulated, "/tokenize", body, limited)
    assert denied.json()["error"]["code"] == "insufficient_permissions"
    assert post(simulated, "/v1/rerank", RERANK, limited).status_code == 403
    assert not simulated.query(
        "SELECT 1 FROM billing_usageevent WHERE endpoint LIKE %s", "%tokenize%"
    )
