"""Responses and kept chat completions as clients see them, with OpenAI's own client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai
import pytest
from openai.types.responses import Response

from tests.api.test_files_and_batches import project_key
from tests.harness.platform import CHAT_MODEL, Platform, wait_for

BASE: dict[str, Any] = {"model": CHAT_MODEL, "max_output_tokens": 8}
CONTEXT = 4_096  # of the demo's model
SECRET = "the walrus is paul"


def say(client: openai.OpenAI, text: str = "Hello", **fields: Any) -> Response:
    response: Response = client.responses.create(**{**BASE, "input": text, **fields})
    return response


@contextmanager
def refused(kind: type[openai.APIStatusError], param: str | None, code: str) -> Iterator[None]:
    with pytest.raises(kind) as caught:
        yield
    assert (caught.value.param, caught.value.code) == (param, code), caught.value


@contextmanager
def keeping(platform: Platform, days: int) -> Iterator[None]:
    """While the first organization keeps answers for so long, as gateways know it."""

    def change(to: int) -> None:
        platform.manage(
            "shell", "-c",
            "from tenants.models import Organization; "
            "from tenants.actions.organizations import update_organization; "
            f"found = Organization.objects.get(pk={organization}); "
            f"update_organization(found, {{'answers_kept_days': {to}}}, acting_user=None)",
        )  # fmt: skip

    ((organization,),) = platform.query(
        "SELECT organization_id FROM inference_storedanswer ORDER BY id DESC LIMIT 1"
    )
    change(days)
    try:
        yield
    finally:
        change(30)


# --- Whole and streamed -----------------------------------------------------------------------------


def test_a_response_whole_is_the_clients_object_and_is_billed(simulated: Platform) -> None:
    client = simulated.openai()
    response = say(client, instructions="Be brief.", temperature=0.5, metadata={"a": "b"})
    Response.model_validate(response.model_dump())
    # The simulated engine never stops by itself.
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.output_text and response.output[0].type == "message"
    assert (response.temperature, response.instructions) == (0.5, "Be brief.")
    assert response.metadata == {"a": "b"} and response.error is None
    usage = response.usage
    assert usage is not None and usage.output_tokens == 8
    assert usage.total_tokens == usage.input_tokens + 8
    columns = "endpoint, prompt_tokens, completion_tokens"
    row = simulated.usage_row(response.id.removeprefix("resp_"), columns)
    assert row == ("responses", usage.input_tokens, 8)


def test_a_stream_says_the_same_and_ends_in_the_whole_response(simulated: Platform) -> None:
    client = simulated.openai()
    whole = say(client, temperature=0)
    events = list(client.responses.create(**BASE, input="Hello", temperature=0, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [events[0].type, events[-1].type] == ["response.created", "response.incomplete"]
    text = "".join(each.delta for each in events if each.type == "response.output_text.delta")
    final = events[-1]
    assert final.type == "response.incomplete"
    assert text == final.response.output_text == whole.output_text
    assert client.responses.retrieve(final.response.id).output_text == text
    with client.responses.stream(**BASE, input="Hello", temperature=0) as stream:
        told = list(stream)
    assert told[-1].type == "response.incomplete"
    assert [each.snapshot for each in told if each.type == "response.output_text.delta"][-1] == text
    with simulated.http() as plain:
        raw = plain.post("/v1/responses", json={**BASE, "input": "Hi", "stream": True}).text
    first = raw.split("\n\n", 1)[0].split("\n")
    assert first[0] == "event: response.created"
    assert first[1].startswith('data: {"type":"response.created","sequence_number":0,')
    assert "[DONE]" not in raw


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"conversation": "conv_1"}, "conversation", "unsupported_parameter"),
        ({"prompt": {"id": "p"}}, "prompt", "unsupported_parameter"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "unsupported_parameter"),
        ({"tools": [{"type": "function"}]}, "tools[0].name", "missing_required_parameter"),
        ({"temperature": 3}, "temperature", "invalid_type"),
        ({"max_output_tokens": 0}, "max_output_tokens", "invalid_type"),
        ({"max_output_tokens": 10**6}, "max_output_tokens", "context_length_exceeded"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema",
         "missing_required_parameter"),
        ({"text": {"verbosity": "high"}}, "text.verbosity", "unsupported_parameter"),
        ({"include": ["file_search_call.results"]}, "include[0]", "invalid_type"),
        ({"metadata": {"a": "\0"}}, "metadata", "invalid_value"),
        ({"previous_response_id": "resp_none"}, "previous_response_id",
         "previous_response_not_found"),
        ({"previous_response_id": "a\0b"}, "previous_response_id", "invalid_type"),
        ({"surprise": 1}, "surprise", "unknown_parameter"),
        ({"input": []}, "input", "invalid_type"),
    ],
)  # fmt: skip
def test_what_is_not_served_is_refused_by_its_name(
    simulated: Platform, fields: dict[str, Any], param: str, code: str
) -> None:
    with simulated.http() as plain:
        answer = plain.post("/v1/responses", json={**BASE, "input": "Hi", **fields})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == (param, code), error


def test_what_does_not_fit_is_refused_or_left_out_at_the_beginning(simulated: Platform) -> None:
    client = simulated.openai()
    turns = [{"role": "user", "content": f"turn {n} " + "word " * 300} for n in range(24)]
    short = client.responses.input_tokens.count(model=CHAT_MODEL, input=turns[-1:])  # type: ignore[arg-type]
    with refused(openai.BadRequestError, "input", "context_length_exceeded"):
        client.responses.create(**BASE, input=turns)  # type: ignore[arg-type]
    kept = client.responses.create(**BASE, input=turns, truncation="auto")  # type: ignore[arg-type]
    assert kept.usage is not None
    assert kept.usage.input_tokens >= short.input_tokens > 300
    rule = {"role": "developer", "content": "rule " * 500}
    told = client.responses.create(**BASE, input=[rule, *turns], truncation="auto")  # type: ignore[arg-type]
    # The rule, and as many of the last turns as fit beside it.
    left = [
        client.responses.input_tokens.count(model=CHAT_MODEL, input=[rule, *turns[-n:]])  # type: ignore[list-item]
        for n in range(1, 13)
    ]
    assert told.usage is not None
    fitting = [each.input_tokens for each in left if each.input_tokens < CONTEXT]
    assert told.usage.input_tokens == fitting[-1] and len(fitting) < len(left)
    assert len(client.responses.input_items.list(kept.id, limit=100).data) == 24


# --- Kept ---------------------------------------------------------------------------------------------


def test_a_response_is_kept_shown_and_deleted(simulated: Platform) -> None:
    client = simulated.openai()
    made = say(client, SECRET)
    assert client.responses.retrieve(made.id).model_dump() == made.model_dump()
    items = client.responses.input_items.list(made.id).data
    assert [item.content[0].text for item in items] == [SECRET]  # type: ignore[union-attr]
    (stored,) = simulated.query(
        "SELECT content FROM inference_storedanswer WHERE public_id = %s", made.id
    )
    assert SECRET.encode() not in bytes(stored[0])
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.delete(made.id)
    told = simulated.query("SELECT action FROM tenants_auditevent WHERE object_id = %s", made.id)
    assert told == [("answer.deleted",)]


def test_what_is_not_to_be_kept_is_not(simulated: Platform) -> None:
    client = simulated.openai()
    made = say(client, store=False)
    assert made.model_extra is not None and made.model_extra["store"] is False
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)
    with refused(openai.BadRequestError, "previous_response_id", "previous_response_not_found"):
        say(client, previous_response_id=made.id)


def test_a_turn_follows_those_before_it_and_not_a_hole(simulated: Platform) -> None:
    client = simulated.openai()
    first = say(client, "My name is Ada.", instructions="Be brief.")
    second = say(client, "Who am I?", previous_response_id=first.id)
    third = say(client, "And now?", previous_response_id=second.id)
    flat = [
        {"role": "user", "content": "My name is Ada."},
        {"role": "assistant", "content": first.output_text},
        {"role": "user", "content": "Who am I?"},
        {"role": "assistant", "content": second.output_text},
        {"role": "user", "content": "And now?"},
    ]
    count = client.responses.input_tokens.count
    same = count(model=CHAT_MODEL, input=flat)  # type: ignore[arg-type]
    asked = count(model=CHAT_MODEL, input="And now?", previous_response_id=second.id)
    assert third.usage is not None
    assert third.usage.input_tokens == same.input_tokens == asked.input_tokens
    assert third.previous_response_id == second.id
    client.responses.delete(first.id)
    with refused(openai.BadRequestError, "previous_response_id", "previous_response_not_found"):
        say(client, "?", previous_response_id=third.id)


def test_items_are_listed_by_pages(simulated: Platform) -> None:
    client = simulated.openai()
    made = client.responses.create(
        **BASE, input=[{"role": "user", "content": str(number)} for number in range(5)]
    )
    pages = client.responses.input_items.list(made.id, order="asc", limit=2)
    assert [item.content[0].text for item in pages] == list("01234")  # type: ignore[union-attr]
    assert [item.content[0].text for item in client.responses.input_items.list(made.id)] == list(
        "43210"
    )  # type: ignore[union-attr]
    with refused(openai.BadRequestError, "after", "invalid_value"):
        client.responses.input_items.list(made.id, after="msg_none")


def test_nothing_of_another_organization_is_there(simulated: Platform) -> None:
    client, stranger = simulated.openai(), simulated.openai(simulated.other_key)
    made = say(client, SECRET)
    kept = client.chat.completions.create(
        model=CHAT_MODEL, max_tokens=4, store=True, messages=[{"role": "user", "content": SECRET}]
    )
    for attempt in (
        lambda: stranger.responses.retrieve(made.id),
        lambda: stranger.responses.delete(made.id),
        lambda: stranger.responses.cancel(made.id),
        lambda: stranger.responses.input_items.list(made.id),
        lambda: stranger.chat.completions.retrieve(kept.id),
        lambda: stranger.chat.completions.update(kept.id, metadata={}),
        lambda: stranger.chat.completions.delete(kept.id),
        lambda: stranger.chat.completions.messages.list(kept.id),
        lambda: client.chat.completions.retrieve(made.id),
        lambda: client.responses.retrieve(kept.id),
    ):
        with pytest.raises(openai.NotFoundError):
            attempt()
    with refused(openai.BadRequestError, "previous_response_id", "previous_response_not_found"):
        say(stranger, previous_response_id=made.id)
    assert kept.id not in [each.id for each in stranger.chat.completions.list(limit=100)]
    assert client.responses.retrieve(made.id).id == made.id
    assert client.chat.completions.retrieve(kept.id).id == kept.id
    with refused(openai.BadRequestError, "response_id", "invalid_value"):
        client.responses.cancel(made.id)
    again = list(client.responses.retrieve(made.id, stream=True))
    assert again[-1].type == "response.incomplete" and again[-1].response == made


def test_keys_are_held_to_their_scopes(simulated: Platform) -> None:
    made = say(simulated.openai())
    _, secret = project_key(simulated, scopes=["inference.chat"])
    asker = simulated.openai(secret)
    assert say(asker).output_text
    for attempt in (
        lambda: asker.responses.retrieve(made.id),
        lambda: say(asker, previous_response_id=made.id),
        lambda: asker.chat.completions.list(),
    ):
        with pytest.raises(openai.PermissionDeniedError, match=r"answers\.read"):
            attempt()
    with pytest.raises(openai.PermissionDeniedError, match=r"answers\.write"):
        asker.responses.delete(made.id)
    _, secret = project_key(simulated, scopes=["answers.read"])
    reader = simulated.openai(secret)
    assert reader.responses.retrieve(made.id).id == made.id
    with pytest.raises(openai.PermissionDeniedError, match=r"inference\.chat"):
        say(reader)


def test_an_organization_that_keeps_nothing_says_so(simulated: Platform) -> None:
    client = simulated.openai()
    before = say(client)
    with keeping(simulated, 0):

        def not_kept() -> bool:
            made = say(client)
            return (made.model_extra or {})["store"] is False

        wait_for(not_kept, 5, every_s=0.2)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(before.id)
        completion = client.chat.completions.create(
            model=CHAT_MODEL, max_tokens=2, store=True, messages=[{"role": "user", "content": "x"}]
        )
        assert (completion.model_extra or {})["store"] is False
        with refused(openai.BadRequestError, "background", "invalid_value"):
            say(client, background=True)
    wait_for(lambda: (say(client).model_extra or {})["store"], 5, every_s=0.2)


# --- Chat completions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_completion_is_kept_listed_relabelled_and_deleted(
    simulated: Platform, is_streamed: bool
) -> None:
    client = simulated.openai()
    label = {"of": f"test-{is_streamed}"}
    options: dict[str, Any] = {
        "model": CHAT_MODEL, "max_tokens": 6, "temperature": 0, "store": True, "metadata": label,
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": SECRET}],
    }  # fmt: skip
    made = []
    for _ in range(3):
        if is_streamed:
            chunks = list(client.chat.completions.create(**options, stream=True))
            made.append(
                (chunks[0].id, "".join(each.choices[0].delta.content or "" for each in chunks))
            )
        else:
            whole = client.chat.completions.create(**options)
            made.append((whole.id, whole.choices[0].message.content))
    stored = client.chat.completions.retrieve(made[0][0])
    assert (stored.id, stored.choices[0].message.content) == made[0]
    assert stored.usage is not None and stored.usage.completion_tokens == 6
    pages = client.chat.completions.list(limit=2, metadata=label)
    assert [each.id for each in pages] == [each for each, _ in made]
    newest = client.chat.completions.list(limit=1, order="desc", model=CHAT_MODEL)
    assert newest.data[0].id == made[2][0]
    messages = client.chat.completions.messages.list(made[0][0])
    assert [message.content for message in messages] == ["s", SECRET]
    client.chat.completions.update(made[0][0], metadata={"of": "another"})
    assert [each.id for each in client.chat.completions.list(metadata=label)] == [
        each for each, _ in made[1:]
    ]
    shown: Any = client.chat.completions.retrieve(made[0][0])
    assert shown.metadata == {"of": "another"}
    assert client.chat.completions.delete(made[0][0]).deleted
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.retrieve(made[0][0])
