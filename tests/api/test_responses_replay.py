"""Events made anew, and items given up, as OpenAI's own client puts them together."""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any

import pytest
from msgspec.structs import replace
from openai import omit
from openai._models import construct_type_unchecked
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent

from api.responses.replay import abandoned, ending, replayed
from api.responses.writer import ResponseWriter
from inference.dispatch import Output
from tests.api.test_responses_writer import ALL_KINDS, USAGE, empty, written


def accumulated(events: list[bytes]) -> Any:
    """The response that the client has in the end; it raises where events contradict."""
    state: Any = ResponseStreamState(text_format=omit, input_tools=[])
    told: list[Any] = []
    for number, event in enumerate(map(json.loads, events)):
        assert event["sequence_number"] == number
        built = construct_type_unchecked(type_=ResponseStreamEvent, value=event)  # type: ignore[arg-type]
        told += state.handle_event(built)
    return told[-1].response


def test_an_answer_told_anew_has_the_same_items_and_texts() -> None:
    events, response = written(ALL_KINDS)
    again = [json.loads(event) for event in replayed(copy.deepcopy(response))]
    closing = [event for event in events if event["type"].endswith(".done")]
    assert [
        {**event, "sequence_number": 0} for event in again if event["type"].endswith(".done")
    ] == [{**event, "sequence_number": 0} for event in closing]
    assert again[0]["response"]["output"] == [] and again[0]["response"]["usage"] is None
    assert again[-1]["response"] == response
    final = accumulated(replayed(response))
    assert final.output_text == "Let me see." and len(final.output) == 4


@pytest.mark.parametrize("cut", range(3, 25))
def test_an_attempt_cut_anywhere_is_followed_by_another(cut: int) -> None:
    """What was told stays true, numbers go on, and the response has the second's items only."""
    first, _ = written(ALL_KINDS)
    writer = ResponseWriter({**empty(), "status": "queued"}, None)
    told = [*writer.queued(), *(json.dumps(event).encode() for event in first[1:cut])]
    told = [
        json.dumps({**json.loads(e), "sequence_number": n}).encode() for n, e in enumerate(told)
    ]
    closing, places = abandoned(told[2:], len(told))
    told += closing
    second = ResponseWriter(empty(), None)
    second.go_on(len(told), places)
    told += second.begin()
    for output in ALL_KINDS:
        told += second.output(_anew(output))
    told += second.end("completed", usage=USAGE)
    told.append(ending(second.response, len(told)))
    final = accumulated(told)
    assert final.output_text == "Let me see." and len(final.output) == 4
    kinds = [json.loads(event)["type"] for event in told]
    assert kinds.count("response.output_item.added") == kinds.count("response.output_item.done")


def _anew(output: Output) -> Output:
    """Parsers give each call an id of its own."""
    assert output.message is not None
    calls = [replace(call, id=call.id and f"{call.id}_2") for call in output.message.tool_calls]
    return dataclasses.replace(output, message=replace(output.message, tool_calls=calls))


def test_what_was_said_of_an_item_that_is_given_up_is_in_its_end() -> None:
    events, _ = written(ALL_KINDS)
    upto = [json.dumps(event).encode() for event in events if event["sequence_number"] < 13]
    closing, places = abandoned(upto[2:], 13)
    assert places == 2
    (event,) = map(json.loads, closing)
    assert event["item"]["status"] == "incomplete"
    assert event["item"]["content"][0]["text"] == "Let me see."
    assert abandoned([], 2) == ([], 0)
