"""Which chat requests may be given the answer to a question that means the same: pure."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from api.chat_completions.wire import ChatRequest, decode
from api.controls import DEFAULT, Controls
from api.questions import question_of
from inference.semantic_cache import MOST_CHARACTERS, Question
from inference.wire import Sampling
from tests.tenants.factory import make_principal

FIXED, LOOSE = Sampling(temperature=0.0), Sampling(temperature=1.0)
ASKS, DECLINES = Controls(wants_semantic=True), Controls(wants_semantic=False)
SYSTEM = {"role": "system", "content": "Be kind."}
USER = {"role": "user", "content": "How are you?"}
TOOL = {"type": "function", "function": {"name": "look_up"}}


def chat(*messages: dict[str, Any], **fields: Any) -> ChatRequest:
    body = {"model": "m", "messages": list(messages) or [SYSTEM, USER], **fields}
    return decode(json.dumps(body).encode())


def ask(
    body: ChatRequest, mode: str = "all", sampling: Sampling = FIXED, controls: Controls = DEFAULT
) -> Question | None:
    principal = replace(make_principal(), semantic_cache=mode)
    return question_of(body, sampling, principal, controls)


@pytest.mark.parametrize(
    ("mode", "sampling", "controls", "is_compared"),
    [
        ("off", FIXED, ASKS, False),
        ("asked", FIXED, DEFAULT, False),
        ("asked", FIXED, ASKS, True),
        ("asked", LOOSE, ASKS, True),
        ("all", FIXED, DEFAULT, True),
        ("all", Sampling(temperature=1.0, seed=7), DEFAULT, True),
        ("all", LOOSE, DEFAULT, False),
        ("all", LOOSE, ASKS, True),
        ("all", FIXED, DECLINES, False),
        ("all", Sampling(temperature=0.0, logprobs=0), ASKS, False),
    ],
)
def test_organization_and_request_agree(
    mode: str, sampling: Sampling, controls: Controls, is_compared: bool
) -> None:
    assert (ask(chat(), mode, sampling, controls) is not None) is is_compared


@pytest.mark.parametrize(
    "body",
    [
        chat(SYSTEM, USER, {"role": "assistant", "content": "Well"}),
        chat(SYSTEM, USER | {"content": "  "}),
        chat(SYSTEM, USER | {"content": "x" * (MOST_CHARACTERS + 1)}),
        chat(tools=[TOOL]),
    ],
    ids=["answer begun", "empty", "long", "tools"],
)
def test_what_is_no_short_question_is_not_compared(body: ChatRequest) -> None:
    assert ask(body) is None


@pytest.mark.parametrize(
    "same",
    [
        {"stream": True, "stream_options": {"include_usage": True}},
        {"user": "u", "metadata": {"a": "b"}, "service_tier": "flex", "model": "alias"},
    ],
)
def test_fields_that_change_no_answer_do_not_part_questions(same: dict[str, Any]) -> None:
    assert ask(chat(**same)) == ask(chat())


@pytest.mark.parametrize(
    "other",
    [
        chat(USER),
        chat(SYSTEM | {"content": "Be rude."}, USER),
        chat(SYSTEM, USER, {"role": "assistant", "content": "Well."}, USER),
        chat(SYSTEM, USER | {"name": "ann"}),
        *(
            chat(**fields)
            for fields in (
                {"top_p": 0.5},
                {"max_tokens": 8},
                {"stop": ["."]},
                {"n": 2},
                {"response_format": {"type": "json_object"}},
            )
        ),
    ],
)
def test_whatever_else_differs_parts_them(other: ChatRequest) -> None:
    one, found = ask(chat()), ask(other)
    assert one is not None and found is not None
    assert found.text == one.text and found.rest != one.rest
