"""OpenAI's Python client: its helpers and exceptions, not only its HTTP."""

from __future__ import annotations

import json
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from tests.harness.platform import CHAT_MODEL, EMBEDDING_MODEL, Platform

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
BASE = {"model": CHAT_MODEL, "messages": QUESTION, "temperature": 0, "max_tokens": 64}


class Place(BaseModel):
    """Of few values, so that a small model is soon done."""

    city: Literal["Paris", "Rome"]
    country: Literal["France", "Italy"]


@pytest.fixture(scope="module")
def client(live: Platform) -> openai.OpenAI:
    return live.openai()


def test_a_stream_by_the_clients_accumulator(client: openai.OpenAI) -> None:
    kinds = set()
    with client.chat.completions.stream(**BASE) as stream:
        for event in stream:
            kinds.add(event.type)
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert "Paris" in (final.choices[0].message.content or "")
    assert final.choices[0].finish_reason == "stop"


def test_a_tool_is_called_and_its_result_read(client: openai.OpenAI) -> None:
    tool = openai.pydantic_function_tool(Place, name="look_up")
    choice = {"tool_choice": "required", "parallel_tool_calls": False, "max_tokens": 128}
    options = {**BASE, "tools": [tool], **choice}
    whole = client.chat.completions.parse(**options)
    [call] = whole.choices[0].message.tool_calls or []
    assert isinstance(call.function.parsed_arguments, Place)
    result = {"role": "tool", "tool_call_id": call.id, "content": "Paris is the capital."}
    said = whole.choices[0].message.model_dump(exclude_none=True, exclude={"parsed"})
    said["tool_calls"] = [each.model_dump(exclude_none=True) for each in [call]]
    del said["tool_calls"][0]["function"]["parsed_arguments"]
    after = client.chat.completions.create(**{**BASE, "messages": [*QUESTION, said, result]})
    assert after.choices[0].message.content


def test_structured_output_is_parsed(client: openai.OpenAI) -> None:
    parsed = client.chat.completions.parse(**BASE, response_format=Place)
    assert isinstance(parsed.choices[0].message.parsed, Place)
    answer = client.responses.parse(
        model=CHAT_MODEL, input="The capital of France", text_format=Place, temperature=0
    )
    assert isinstance(answer.output_parsed, Place)


def test_embeddings_are_numbers_of_the_same_base64(client: openai.OpenAI) -> None:
    """The client asks for base64 by itself, and for numbers when told to."""
    texts = ["A cat sat on the mat.", "Prices rose."]
    packed = client.embeddings.create(model=EMBEDDING_MODEL, input=texts)
    plain = client.embeddings.create(model=EMBEDDING_MODEL, input=texts, encoding_format="float")
    assert [len(item.embedding) for item in packed.data] == [384, 384]
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "expected", "code", "param"),
    [
        ({"model": "gpt-nothing"}, openai.NotFoundError, "model_not_found", "model"),
        ({"temperature": 9}, openai.BadRequestError, "invalid_type", "temperature"),
        ({"max_tokens": 9_999}, openai.BadRequestError, "context_length_exceeded", "max_tokens"),
        ({"audio": {"voice": "alloy"}}, openai.BadRequestError, "unsupported_parameter", "audio"),
    ],
)
def test_a_refusal_is_the_exception_that_programs_catch(
    client: openai.OpenAI,
    change: dict[str, Any],
    expected: type[openai.APIStatusError],
    code: str,
    param: str,
) -> None:
    with pytest.raises(expected) as refused:
        client.chat.completions.create(**{**BASE, **change})
    error = refused.value
    assert (error.code, error.param) == (code, param)
    assert error.request_id == error.response.headers["x-request-id"]


def test_keys_and_limits_are_exceptions_of_their_own(live: Platform, spent_key: str) -> None:
    with pytest.raises(openai.AuthenticationError) as unknown:
        live.openai("sk-proj-wrong").models.list()
    assert unknown.value.code == "invalid_api_key"
    with pytest.raises(openai.PermissionDeniedError):
        live.openai(live.demo["SLUICE_ADMIN_KEY"]).chat.completions.create(**BASE)
    with pytest.raises(openai.RateLimitError) as spent:
        live.openai(spent_key).chat.completions.create(**BASE)
    assert spent.value.code == "rate_limit_exceeded"
    assert 60 < int(spent.value.response.headers["retry-after"]) <= 86_400


def test_a_stream_that_is_closed_ends_in_the_engine(live: Platform, client: openai.OpenAI) -> None:
    options = {**BASE, "max_tokens": 2_000, "extra_body": {"ignore_eos": True}, "stream": True}
    with client.chat.completions.create(**options) as stream:
        first = next(iter(stream))
    row = live.usage_row(first.id.removeprefix("chatcmpl-"), "status, completion_tokens")
    assert row[0] == "cancelled" and row[1] < 1_000


def test_raw_answers_have_the_headers_that_programs_read(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(**{**BASE, "max_tokens": 2})
    assert raw.parse().id == f"chatcmpl-{raw.headers['x-request-id']}"
    assert int(raw.headers["openai-processing-ms"]) >= 0
    assert json.loads(raw.text)["object"] == "chat.completion"
