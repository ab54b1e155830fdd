"""Background responses: asked for, made by nobody's request, read anywhere, whoever dies."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses import Response

from tests.api.test_keys_and_limits import new_key
from tests.api.test_resumable_live import gateways, is_ready
from tests.harness.platform import CHAT_MODEL, Platform, wait_for

TOKENS = 40
BASE: dict[str, Any] = {
    "model": CHAT_MODEL,
    "input": "Say it.",
    "background": True,
    "max_output_tokens": TOKENS,
    "extra_body": {"ignore_eos": True},
}
ENDED = ("completed", "incomplete", "failed", "cancelled")


@pytest.fixture
def platform(unhurried: Platform) -> Platform:
    return unhurried


@pytest.fixture
def clients(platform: Platform) -> Iterator[list[openai.OpenAI]]:
    """One at each gateway."""
    made = [
        openai.OpenAI(base_url=f"{each}/v1", api_key=platform.key, max_retries=0)
        for each in gateways(platform)
    ]
    yield made
    for client in made:
        client.close()


def ended(client: openai.OpenAI, response_id: str, timeout_s: float = 20) -> Response:
    def look() -> Response | None:
        found = client.responses.retrieve(response_id)
        return found if found.status in ENDED else None

    found = wait_for(look, timeout_s)
    assert found is not None
    return found


def usages(platform: Platform, response_id: str) -> list[tuple[str, int]]:
    """What was recorded of all attempts, those of which nothing is billed left out."""
    return platform.query(
        "SELECT status, completion_tokens FROM billing_usageevent"
        " WHERE request_id LIKE %s AND completion_tokens > 0",
        response_id.removeprefix("resp_") + "-%",
    )


def assert_billed_once(platform: Platform, response: Response) -> None:
    assert response.usage is not None
    ((status, tokens),) = usages(platform, response.id)
    told = "cancelled" if response.status == "cancelled" else "completed"
    assert (status, tokens) == (told, response.usage.output_tokens)
    # Nothing more comes later: no hold of it is left, and no posting without a row.
    assert not platform.redis().exists(f"held:{response.id.removeprefix('resp_')}-1")


def assert_numbered(events: list[Any], first: int = 0) -> None:
    numbers = [event.sequence_number for event in events]
    assert numbers == list(range(first, first + len(numbers))), "none twice, none lost"


def text_of(events: list[Any]) -> str:
    return "".join(e.delta for e in events if e.type == "response.output_text.delta")


@contextmanager
def refused(param: str | None, code: str, status: int = 400) -> Iterator[None]:
    with pytest.raises(openai.APIStatusError) as caught:
        yield
    error = caught.value
    assert (error.status_code, error.param, error.code) == (status, param, code), error


def test_it_is_queued_at_once_and_made_by_itself(
    platform: Platform, clients: list[openai.OpenAI]
) -> None:
    asked = clients[0].responses.create(**BASE, metadata={"a": "b"}, service_tier="default")
    assert (asked.status, asked.background, asked.output) == ("queued", True, [])
    wait_for(lambda: clients[1].responses.retrieve(asked.id).status == "in_progress", 5)
    done = ended(clients[1], asked.id)
    assert done.status == "incomplete" and done.background and done.metadata == {"a": "b"}
    assert done.created_at == asked.created_at and done.service_tier == "default"
    assert done.usage is not None and done.usage.output_tokens == TOKENS
    assert_billed_once(platform, done)
    assert platform.query(
        "SELECT tier FROM billing_usageevent WHERE request_id = %s", f"{done.id[5:]}-1"
    ) == [("standard",)]
    # A turn may follow it, and it is not made a second time.
    after = clients[0].responses.create(
        model=CHAT_MODEL, input="And?", previous_response_id=done.id, max_output_tokens=2
    )
    assert after.usage is not None and after.usage.input_tokens > done.usage.total_tokens
    assert clients[0].responses.cancel(done.id) == done


def test_a_stream_is_read_on_at_another_gateway(
    platform: Platform, clients: list[openai.OpenAI]
) -> None:
    first: list[Any] = []
    with clients[0].responses.create(**BASE, stream=True) as stream:
        for event in stream:
            first.append(event)
            if len(first) == 12:
                break
    assert [event.type for event in first[:3]] == [
        "response.created", "response.queued", "response.in_progress"
    ]  # fmt: skip
    response_id = first[0].response.id
    assert clients[1].responses.retrieve(response_id).status == "in_progress"
    rest = list(
        clients[1].responses.retrieve(
            response_id, stream=True, starting_after=first[-1].sequence_number
        )
    )
    assert_numbered(first + rest)
    last = rest[-1]
    assert last.type == "response.incomplete"
    assert text_of(first + rest) == last.response.output_text
    assert last.response == ended(clients[0], response_id)
    assert_billed_once(platform, last.response)
    # Again after its end, from anywhere, also by the client that puts events together.
    assert list(clients[0].responses.retrieve(response_id, stream=True)) == first + rest
    with clients[1].responses.stream(response_id=response_id) as again:
        assert len(list(again)) >= len(first + rest)


def test_when_the_log_is_gone_the_answer_is_told_anew(
    platform: Platform, clients: list[openai.OpenAI]
) -> None:
    asked = clients[0].responses.create(**BASE)
    with refused("stream", "stream_unavailable"):
        clients[0].responses.retrieve(asked.id, stream=True)
    done = ended(clients[0], asked.id)
    events = list(clients[1].responses.retrieve(asked.id, stream=True))
    assert_numbered(events)
    assert text_of(events) == done.output_text and events[-1].response == done
    with refused("starting_after", "stream_expired"):
        clients[1].responses.retrieve(asked.id, stream=True, starting_after=3)
    with refused("starting_after", "invalid_value"):
        clients[1].responses.retrieve(asked.id, stream=True, starting_after=-1)
    with refused("starting_after", "invalid_value"):
        clients[1].responses.retrieve(asked.id, starting_after=1)  # type: ignore[call-overload]


def test_cancelling_stops_the_engine_and_bills_what_was_made(
    platform: Platform, clients: list[openai.OpenAI]
) -> None:
    events: list[Any] = []
    with clients[0].responses.create(**{**BASE, "max_output_tokens": 2000}, stream=True) as stream:
        for event in stream:
            events.append(event)
            if len(events) == 10:
                cancelled = clients[1].responses.cancel(events[0].response.id)
                stopped_at = time.monotonic()
                assert cancelled.status == "cancelled"
    assert time.monotonic() - stopped_at < 3.0, "the stream ends with it"
    assert_numbered(events)
    last = events[-1]
    assert last.type == "response.cancelled"
    done = clients[0].responses.retrieve(cancelled.id)
    assert done.status == "cancelled" and done.usage is not None
    # A second is 33 tokens of this engine.
    assert 5 <= done.usage.output_tokens < 50
    assert text_of(events) == done.output_text
    assert_billed_once(platform, done)
    assert clients[0].responses.cancel(cancelled.id) == done, "twice is once"


def test_deleting_stops_it_too_and_nothing_of_it_is_left(
    platform: Platform, clients: list[openai.OpenAI]
) -> None:
    options = {**BASE, "max_output_tokens": 2000}
    with clients[0].responses.create(**options, stream=True) as stream:
        events = [next(stream) for _ in range(10)]
        response_id = events[0].response.id
        clients[1].responses.delete(response_id)
    wait_for(lambda: usages(platform, response_id), 5)
    ((status, tokens),) = usages(platform, response_id)
    assert status == "cancelled" and 5 <= tokens < 100
    for act in (clients[0].responses.retrieve, clients[0].responses.cancel):
        with refused("id", "not_found", 404):
            act(response_id)
    with platform.http() as client:
        assert client.get(f"/v1/streams/{response_id[5:]}").status_code == 404
    sql = "SELECT count(*) FROM inference_backgroundresponse WHERE public_id = %s"
    wait_for(lambda: platform.query(sql, response_id) == [(0,)], 5)


def test_a_killed_batch_process_costs_time_and_no_money(
    platform: Platform, clients: list[openai.OpenAI]
) -> None:
    quiet = clients[0].responses.create(**BASE)
    heard: list[Any] = []
    with clients[1].responses.stream(**BASE) as stream:
        for number, event in enumerate(stream):
            heard.append(event)
            if number == 15:
                killed = platform.pid("batch")
                os.kill(killed, signal.SIGKILL)
        final = stream.get_final_response() if heard[-1].type == "response.completed" else None
    assert final is None and heard[-1].type == "response.incomplete"
    response_id = heard[0].response.id
    events = list(clients[0].responses.retrieve(response_id, stream=True))
    assert_numbered(events)
    begun = [event for event in events if event.type == "response.output_item.added"]
    given_up, *_ = [event for event in events if event.type == "response.output_item.done"]
    assert len(begun) == 2 and given_up.item.status == "incomplete"
    assert begun[1].output_index == 1
    for done in (ended(clients[0], response_id), ended(clients[1], quiet.id)):
        assert done.status == "incomplete" and len(done.output) == 1
        assert done.usage is not None and done.usage.output_tokens == TOKENS
        ((status, tokens),) = usages(platform, done.id)
        assert (status, tokens) == ("completed", TOKENS)
    wait_for(lambda: platform.pid("batch") not in (0, killed), 30)


def test_a_killed_gateway_is_not_even_noticed(
    platform: Platform, clients: list[openai.OpenAI]
) -> None:
    heard: list[Any] = []
    with (
        pytest.raises((openai.APIError, httpx.HTTPError)),
        clients[1].responses.create(**BASE, stream=True) as stream,
    ):
        for event in stream:
            heard.append(event)
            if len(heard) == 10:
                killed = platform.pid("web-2")
                os.kill(killed, signal.SIGKILL)
    response_id = heard[0].response.id
    rest = list(
        clients[0].responses.retrieve(
            response_id, stream=True, starting_after=heard[-1].sequence_number
        )
    )
    assert_numbered(heard + rest)
    assert rest[-1].type == "response.incomplete"
    assert text_of(heard + rest) == rest[-1].response.output_text
    assert_billed_once(platform, rest[-1].response)
    wait_for(lambda: is_ready(gateways(platform)[1]), 60, 0.3)


def test_what_it_needs_and_what_it_may_not(
    platform: Platform, clients: list[openai.OpenAI]
) -> None:
    client = clients[0]
    with refused("store", "invalid_value"):
        client.responses.create(**BASE, store=False)
    with refused("temperature", "invalid_type"):
        client.responses.create(**BASE, temperature=9)
    with refused("previous_response_id", "previous_response_not_found"):
        client.responses.create(**BASE, previous_response_id="resp_none")
    made = client.responses.create(**BASE, stream=False)
    with refused("previous_response_id", "previous_response_not_completed"):
        client.responses.create(model=CHAT_MODEL, input="And?", previous_response_id=made.id)
    foreground = client.responses.create(model=CHAT_MODEL, input="?", max_output_tokens=2)
    with refused("response_id", "invalid_value"):
        client.responses.cancel(foreground.id)
    with platform.openai(platform.other_key) as stranger:
        for act in (
            lambda: stranger.responses.retrieve(made.id),
            lambda: stranger.responses.retrieve(made.id, stream=True),
            lambda: stranger.responses.cancel(made.id),
            lambda: stranger.responses.delete(made.id),
        ):
            with refused("id", "not_found", 404):
                act()
    assert client.responses.retrieve(made.id).status in ("queued", "in_progress")
    assert client.responses.cancel(made.id).status == "cancelled"


@pytest.mark.parametrize(
    ("query", "param"),
    [("stream=maybe", "stream"), ("stream=true&starting_after=x", "starting_after"),
     ("stream=true&starting_after=99999999999999999999", "starting_after")],
)  # fmt: skip
def test_odd_questions_are_refused(platform: Platform, query: str, param: str) -> None:
    with platform.http() as client:
        refusal = client.get(f"/v1/responses/resp_x?{query}")
        assert refusal.status_code == 400 and refusal.json()["error"]["param"] == param
        for wrong in ("yes", 1, {}):
            body = {"model": CHAT_MODEL, "input": "?", "background": wrong}
            error = client.post("/v1/responses", json=body).json()["error"]
            assert (error["param"], error["code"]) == ("background", "invalid_type")


def test_a_rate_is_waited_for_and_a_budget_is_not(platform: Platform) -> None:
    key, _ = new_key(platform, "slow", "requests_per_minute=1")
    client = platform.openai(key)
    first, second = (client.responses.create(**BASE) for _ in range(2))
    assert ended(client, first.id).status == "incomplete"
    row = "SELECT state, attempts, run_after > now() FROM inference_backgroundresponse WHERE public_id = %s"
    wait_for(lambda: platform.query(row, second.id) == [("queued", 0, True)], 10)
    assert client.responses.retrieve(second.id).status == "queued"
    client.responses.cancel(second.id)
    key, _ = new_key(platform, "poor", "monthly_budget_micros=1")
    poor = platform.openai(key)
    failed = ended(poor, poor.responses.create(**BASE).id)
    assert failed.status == "failed" and failed.error is not None and failed.usage is None
    assert failed.error.code == "rate_limit_exceeded" and "budget" in failed.error.message
    assert not usages(platform, failed.id)


def test_whoever_reads_hears_how_it_ended_though_nobody_made_it(platform: Platform) -> None:
    key, _ = new_key(platform, "slower", "requests_per_minute=1")
    client = platform.openai(key)
    ended(client, client.responses.create(**{**BASE, "max_output_tokens": 1}).id)

    def heard(act: Callable[[str], object]) -> list[str]:
        kinds, response_id = [], ""
        with client.responses.create(**BASE, stream=True) as stream:
            for event in stream:
                kinds.append(event.type)
                if event.type == "response.queued":
                    response_id = event.response.id
                    act(response_id)
        assert_numbered(list(client.responses.retrieve(response_id, stream=True)))
        assert not usages(platform, response_id)
        return kinds

    def grow_old(response_id: str) -> None:
        old = "UPDATE inference_backgroundresponse SET expires_at = now() WHERE public_id = %s"
        platform.query(old, response_id)

    begun = ["response.created", "response.queued"]
    assert heard(client.responses.cancel) == [*begun, "response.cancelled"]
    assert heard(grow_old) == [*begun, "response.failed"]


def test_the_same_key_is_the_same_response(
    platform: Platform, clients: list[openai.OpenAI]
) -> None:
    headers = {"Idempotency-Key": f"background-{time.time()}"}
    first = clients[0].responses.create(**BASE, extra_headers=headers)
    again = clients[1].responses.create(**BASE, extra_headers=headers)
    assert again.id == first.id
    streamed = {"Idempotency-Key": f"background-stream-{time.time()}"}
    told = [
        list(client.responses.create(**BASE, stream=True, extra_headers=streamed))
        for client in clients
    ]
    assert told[0] == told[1]
    assert_billed_once(platform, told[0][-1].response)
