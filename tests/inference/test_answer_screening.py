"""Findings in reasoning and in the arguments of tool calls are findings in the answer."""

from __future__ import annotations

import pytest

from inference.answer_screening import AnswerScreen
from inference.dispatch import Output
from inference.wire import MessagePart, ToolCallPart

CARD = "4111 1111 1111 1111"


def output(text: str = "", reasoning: str = "", arguments: str = "", finish: str = "") -> Output:
    calls = [ToolCallPart(0, arguments=arguments)] if arguments else []
    message = MessagePart(reasoning, calls) if reasoning or calls else None
    return Output([1], text, finish_reason=finish, message=message)


@pytest.mark.parametrize("field", ["text", "reasoning", "arguments"])
def test_nothing_of_a_finding_is_ever_sent(field: str) -> None:
    screen = AnswerScreen("block")
    sent, blocked = "", []
    for piece in ["My card is ", CARD[:9], CARD[9:], " and so on"]:
        part = output(**{field: piece})
        blocked = screen.feed(part, is_last=False)
        sent += part.text + (part.message.reasoning if part.message else "")
        sent += "".join(call.arguments for call in part.message.tool_calls) if part.message else ""
        if blocked:
            break
    assert blocked == ["pii.card_number"]
    assert "4111" not in sent


def test_what_is_clean_comes_whole_at_the_end() -> None:
    screen = AnswerScreen("block")
    parts = [output(reasoning="I think. "), output(arguments='{"a": '), output(text="Yes")]
    parts += [output(arguments="1}"), Output([2], "", finish_reason="stop")]
    for part in parts:
        assert screen.feed(part, is_last=bool(part.finish_reason)) == []
    messages = [part.message for part in parts if part.message]
    assert "".join(part.text for part in parts) == "Yes"
    assert "".join(message.reasoning for message in messages) == "I think. "
    arguments = [call.arguments for message in messages for call in message.tool_calls]
    assert "".join(arguments) == '{"a": 1}'


def test_flagging_holds_nothing_back_and_finds_it_in_the_whole() -> None:
    screen = AnswerScreen("flag")
    part = output(text="Hello", arguments=CARD)
    assert screen.feed(part, is_last=True) == []
    assert part.text == "Hello"
    assert part.message is not None
    assert part.message.tool_calls[0].arguments == CARD
    assert screen.findings() == ["pii.card_number"]
