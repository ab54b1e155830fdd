"""Resumable streams: broken off anywhere, read on anywhere, whoever dies."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from typing import Any

import httpx
import pytest

from tests.api.conftest import GRACE_S
from tests.harness.platform import CHAT_MODEL, Platform, wait_for

CHAT = "/v1/chat/completions"
TOKENS = 60
RESUMABLE = {"x-sluice-resumable": "true"}


@pytest.fixture
def platform(unhurried: Platform) -> Platform:
    return unhurried


def body_of(text: str, **fields: Any) -> dict[str, Any]:
    message = {"role": "user", "content": text}
    wanted = {"max_tokens": TOKENS, "stream": True, "ignore_eos": True}
    return {"model": CHAT_MODEL, "messages": [message], **wanted, **fields}


class Heard:
    """What a client has of a stream."""

    def __init__(self) -> None:
        self.request_id = ""
        self.last = 0
        self.numbers: list[int] = []
        self.chunks: list[dict[str, Any]] = []
        self.is_ended = False

    def read(self, response: httpx.Response, events: int = 1_000_000) -> None:
        """Take in up to so many events, or all until the stream ends or breaks."""
        number = 0
        for line in response.iter_lines():
            if line.startswith("id: "):
                number = int(line[4:])
            elif line == "data: [DONE]":
                self.is_ended = True
            elif line.startswith("data: "):
                self.numbers.append(number)
                self.chunks.append(json.loads(line[6:]))
                self.last = number
                events -= 1
                if not events:
                    return

    def ask(self, gateway: str, key: str, events: int = 1_000_000, **fields: Any) -> None:
        with (
            client_of(gateway, key) as client,
            client.stream("POST", CHAT, json=body_of("?", **fields), headers=RESUMABLE) as response,
        ):
            assert response.status_code == 200, response.read()
            assert response.headers["x-sluice-resumable"] == "true"
            self.request_id = response.headers["x-request-id"]
            self.read(response, events)

    def resume(self, gateway: str, key: str, events: int = 1_000_000, method: str = "GET") -> None:
        headers = {"Last-Event-ID": str(self.last)}
        path = f"/v1/streams/{self.request_id}"
        with (
            client_of(gateway, key) as client,
            client.stream(method, path, headers=headers) as response,
        ):
            assert response.status_code == 200, response.read()
            self.read(response, events)

    @property
    def words(self) -> int:
        """Each token of the simulated engine is one word."""
        text = "".join(
            choice["delta"].get("content") or ""
            for chunk in self.chunks
            for choice in chunk.get("choices", ())
        )
        return len(text.replace(".", " .").split())

    @property
    def error(self) -> str | None:
        return (self.chunks[-1].get("error") or {}).get("code")

    def assert_whole(self) -> None:
        assert self.is_ended
        assert self.numbers == list(range(1, len(self.numbers) + 1)), "no event twice, none lost"
        assert self.words == TOKENS
        assert self.chunks[-1]["choices"][0]["finish_reason"] == "length"


def client_of(gateway: str, key: str) -> httpx.Client:
    return httpx.Client(
        base_url=gateway, headers={"Authorization": f"Bearer {key}"}, timeout=httpx.Timeout(30)
    )


def gateways(platform: Platform) -> tuple[str, str]:
    """The addresses at which each gateway alone answers."""
    ports = json.loads((platform.state_dir / "ports.json").read_text())
    return f"http://127.0.0.1:{ports['web']}", f"http://127.0.0.1:{ports['web-2']}"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_stream_goes_on_at_another_gateway_while_the_first_makes_it(
    platform: Platform, method: str
) -> None:
    first, second = gateways(platform)
    heard = Heard()
    heard.ask(first, platform.key, events=10)
    assert not heard.is_ended
    heard.resume(second, platform.key, events=10, method=method)
    heard.resume(first, platform.key, events=10, method=method)
    assert not heard.is_ended, "it was still being made"
    heard.resume(second, platform.key, method=method)
    heard.assert_whole()
    # And again, from anywhere, after it ended.
    again = Heard()
    again.request_id = heard.request_id
    again.resume(second, platform.key)
    assert again.chunks == heard.chunks
    row = platform.usage_row(heard.request_id, "status, completion_tokens")
    assert row == ("completed", TOKENS)


def test_a_client_that_does_not_come_back_is_waited_for_so_long(platform: Platform) -> None:
    first, second = gateways(platform)
    heard = Heard()
    began = time.monotonic()
    heard.ask(first, platform.key, events=5, max_tokens=1000)
    status, made = platform.usage_row(heard.request_id, "status, completion_tokens")
    assert status == "cancelled" and 5 <= made < 400
    assert time.monotonic() - began > GRACE_S
    heard.resume(second, platform.key)
    assert heard.error == "stream_abandoned" and heard.is_ended


def test_a_reader_elsewhere_is_no_absence(platform: Platform) -> None:
    first, second = gateways(platform)
    heard = Heard()
    heard.ask(first, platform.key, events=2, max_tokens=200)
    heard.resume(second, platform.key)
    assert heard.words == 200 and heard.error is None


def test_a_stream_of_a_killed_gateway_says_so_and_nothing_is_doubled(platform: Platform) -> None:
    """Under load: streams of both gateways, one of which is killed in their midst."""
    addresses = gateways(platform)
    heard = [Heard() for _ in range(12)]

    def ask(number: int) -> None:
        try:
            heard[number].ask(addresses[number % 2], platform.key, max_tokens=TOKENS)
        except httpx.HTTPError:
            assert number % 2 == 1, "only the killed gateway breaks off"

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(heard))]
    for thread in threads:
        thread.start()
    wait_for(lambda: all(each.last > 8 for each in heard), 30)
    killed = platform.pid("web-2")
    os.kill(killed, signal.SIGKILL)
    for thread in threads:
        thread.join(30)
    for each in heard[::2]:
        each.assert_whole()
    for each in heard[1::2]:
        assert not each.is_ended
        before = len(each.chunks)
        each.resume(addresses[0], platform.key)
        assert each.is_ended and each.error == "stream_lost"
        assert len(each.chunks) > before
        assert each.numbers == list(range(1, len(each.numbers) + 1))
        assert 8 <= each.words < TOKENS
    wait_for(lambda: platform.pid("web-2") not in (0, killed), 30)


def test_a_key_of_a_killed_gateway_is_free_again_and_billed_once(platform: Platform) -> None:
    wait_for(lambda: is_ready(gateways(platform)[1]), 60, 0.3)
    first, second = gateways(platform)
    key = {"Idempotency-Key": f"killed-{time.time()}"}
    body = body_of("Once, whoever dies.")
    with (
        client_of(second, platform.key) as client,
        client_of(first, platform.key) as other,
        client.stream("POST", CHAT, json=body, headers=key) as response,
    ):
        dead = response.headers["x-request-id"]
        next(response.iter_lines())
        assert other.post(CHAT, json=body, headers=key).status_code == 409
        os.kill(platform.pid("web-2"), signal.SIGKILL)

    def again() -> httpx.Response | None:
        with client_of(first, platform.key) as client:
            answer = client.post(CHAT, json=body, headers=key)
        assert answer.status_code in (200, 409)
        return answer if answer.status_code == 200 else None

    answer = wait_for(again, 20, 0.5)
    assert answer is not None and "idempotent-replayed" not in answer.headers
    replayed = again()
    assert replayed is not None and replayed.content == answer.content
    assert replayed.headers["idempotent-replayed"] == "true"
    row = platform.usage_row(answer.headers["x-request-id"], "status, completion_tokens")
    assert row == ("completed", TOKENS)
    # What the worker did for the dead one is billed to nobody (tests/inference/test_holds.py).
    sql = "SELECT count(*) FROM billing_usageevent WHERE request_id = %s AND completion_tokens > 0"
    assert platform.query(sql, dead) == [(0,)]


def is_ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def test_whose_stream_it_is(platform: Platform) -> None:
    first, second = gateways(platform)
    heard = Heard()
    heard.ask(first, platform.key, max_tokens=2)
    path = f"/v1/streams/{heard.request_id}"
    for gateway in (first, second):
        for key, status, code in (
            (platform.other_key, 404, "stream_not_found"),
            ("sk-proj-wrong", 401, "invalid_api_key"),
        ):
            with client_of(gateway, key) as client:
                refused = client.get(path)
            assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("path", "header", "status"),
    [
        ("/v1/streams/" + "0" * 24, None, 404),
        ("/v1/streams/..%2f..%2fetc", None, 404),
        ("/v1/streams/" + "x" * 4000, None, 404),
        ("/v1/streams/*", None, 404),
        ("/v1/streams/{id}?starting_after=-1", None, 400),
        ("/v1/streams/{id}?starting_after=99999999999999999999", None, 400),
        ("/v1/streams/{id}?after=1", None, 400),
        ("/v1/streams/{id}", "-1", 400),
        ("/v1/streams/{id}", "1e3", 400),
        ("/v1/streams/{id}", "9" * 4000, 400),
    ],
)
def test_odd_positions_are_refused(
    platform: Platform, ended: str, path: str, header: str | None, status: int
) -> None:
    with client_of(gateways(platform)[0], platform.key) as client:
        headers = {} if header is None else {"Last-Event-ID": header}
        refused = client.get(path.replace("{id}", ended), headers=headers)
    assert refused.status_code == status, refused.text
    assert refused.json()["error"]["type"] == "invalid_request_error"


@pytest.fixture(scope="module")
def ended(unhurried: Platform) -> str:
    heard = Heard()
    heard.ask(gateways(unhurried)[0], unhurried.key, max_tokens=2)
    return heard.request_id


def test_a_position_behind_the_end_gives_the_end(platform: Platform, ended: str) -> None:
    heard = Heard()
    heard.request_id, heard.last = ended, 1000
    heard.resume(gateways(platform)[1], platform.key)
    assert heard.is_ended and not heard.chunks


def test_what_does_not_ask_is_not_kept(platform: Platform) -> None:
    with client_of(gateways(platform)[0], platform.key) as client:
        answer = client.post(CHAT, json=body_of("Plain.", max_tokens=2))
        assert "x-sluice-resumable" not in answer.headers and "id: " not in answer.text
        path = f"/v1/streams/{answer.headers['x-request-id']}"
        assert client.get(path).status_code == 404
        refused = client.post(CHAT, json=body_of("?"), headers={"x-sluice-resumable": "maybe"})
        assert refused.json()["error"]["param"] == "x-sluice-resumable"
