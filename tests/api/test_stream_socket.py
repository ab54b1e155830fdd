"""``/v1/stream``: several requests on one WebSocket, cancel, errors, revocation."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.harness.platform import CHAT_MODEL, Platform, wait_for

CHAT = "/v1/chat/completions"


@contextmanager
def socket(platform: Platform, key: str | None = None) -> Iterator[ClientConnection]:
    headers = {"Authorization": f"Bearer {key or platform.key}"}
    url = f"ws://127.0.0.1:{platform.port}/v1/stream"
    with connect(url, additional_headers=headers, open_timeout=10) as connection:
        yield connection


def ask(name: str, **fields: Any) -> str:
    body = {"model": CHAT_MODEL, "messages": [{"role": "user", "content": f"Say {name}"}],
            "max_tokens": 8, "stream": True, **fields}  # fmt: skip
    return json.dumps({"type": "request", "id": name, "endpoint": CHAT, "body": body})


def frames_until_done(connection: ClientConnection, names: set[str]) -> dict[str, list[Any]]:
    frames: dict[str, list[Any]] = {name: [] for name in names}
    left = set(names)
    while left:
        frame = json.loads(connection.recv(timeout=30))
        frames[frame["id"]].append(frame)
        if frame["type"] == "done":
            left.discard(frame["id"])
    return frames


def test_requests_are_multiplexed_on_one_socket(simulated: Platform) -> None:
    names = {f"r{number}" for number in range(10)}
    with socket(simulated) as connection:
        for name in sorted(names):
            connection.send(ask(name, stream=name != "r0"))
        frames = frames_until_done(connection, names)
    for name in names - {"r0"}:
        kinds = [frame["type"] for frame in frames[name]]
        assert kinds[-1] == "done"
        assert set(kinds[:-1]) == {"chunk"}
        text = "".join(
            frame["data"]["choices"][0]["delta"].get("content", "") for frame in frames[name][:-1]
        )
        assert re.fullmatch(r"( simulated| text| of| no| model|\.){8}", text)
    assert frames["r0"][0]["type"] == "response"
    assert frames["r0"][0]["data"]["object"] == "chat.completion"
    usage = simulated.usage_row(frames["r0"][-1]["request_id"], "completion_tokens, status")
    assert usage == (8, "completed")


def test_a_request_has_controls_of_its_own_over_the_handshakes(simulated: Platform) -> None:
    def sent(name: str, headers: dict[str, str]) -> str:
        return json.dumps(json.loads(ask(name)) | {"headers": headers})

    url = f"ws://127.0.0.1:{simulated.port}/v1/stream"
    handshake = {"Authorization": f"Bearer {simulated.key}", "x-sluice-cache": "forever"}
    with connect(url, additional_headers=handshake, open_timeout=10) as connection:
        connection.send(ask("as-it-shook-hands"))
        connection.send(sent("own", {"X-Sluice-Cache": "no-cache"}))
        frames = frames_until_done(connection, {"as-it-shook-hands", "own"})
        refused, done = frames["as-it-shook-hands"]
        assert refused["error"]["param"] == "x-sluice-cache" and "headers" not in done
        assert frames["own"][0]["type"] == "chunk"
        told = frames["own"][-1]["headers"]
        assert told["x-sluice-model-version"].startswith(CHAT_MODEL) and "age" not in told
        assert int(told["x-ratelimit-remaining-requests"]) > 0
        for headers in ({"authorization": "Bearer sk-x"}, {"x-sluice-cache": "x" * 257}):
            connection.send(sent("odd", headers))
            assert json.loads(connection.recv(timeout=10))["type"] == "error"


def test_a_request_is_cancelled_and_its_neighbour_is_not(live: Platform) -> None:
    long = {"max_tokens": 1500, "ignore_eos": True}
    with socket(live) as connection:
        connection.send(ask("long", **long))
        connection.send(ask("short", max_tokens=12))
        assert json.loads(connection.recv(timeout=30))["type"] == "chunk"
        connection.send(json.dumps({"type": "cancel", "id": "long"}))
        frames = frames_until_done(connection, {"long", "short"})
    assert len(frames["long"]) < 200
    status, made = live.usage_row(frames["long"][-1]["request_id"], "status, completion_tokens")
    assert status == "cancelled"
    assert made < 1500
    wait_for(lambda: live.worker_metric("chat-1", "vllm:num_requests_running") == 0, 10)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("{", None),
        ("[]", "invalid_type"),
        ('{"type": "dance"}', "invalid_type"),
        ('{"type": "request", "id": "a", "endpoint": "/admin", "body": {}}', "invalid_type"),
        ('{"type": "request", "endpoint": "/v1/embeddings", "body": {}}',
         "missing_required_parameter"),
        (b"\x00\x01", "invalid_value"),
    ],
)  # fmt: skip
def test_a_wrong_frame_is_answered_and_the_socket_lives(
    simulated: Platform, sent: str | bytes, code: str | None
) -> None:
    with socket(simulated) as connection:
        connection.send(sent)
        frame = json.loads(connection.recv(timeout=10))
        assert frame["type"] == "error"
        assert set(frame["error"]) == {"message", "type", "param", "code"}
        assert frame["error"]["code"] == code
        connection.send(ask("after"))
        assert frames_until_done(connection, {"after"})["after"]


def test_a_wrong_body_is_an_error_of_its_request(simulated: Platform) -> None:
    with socket(simulated) as connection:
        connection.send(ask("bad", temperature=9))
        connection.send(ask("good"))
        frames = frames_until_done(connection, {"bad", "good"})
    assert [frame["type"] for frame in frames["bad"]] == ["error", "done"]
    assert frames["bad"][0]["error"]["param"] == "temperature"
    assert frames["good"][0]["type"] == "chunk"


def test_one_id_runs_once_and_a_socket_is_bounded(live: Platform) -> None:
    with socket(live) as connection:
        connection.send(ask("same", max_tokens=400, ignore_eos=True))
        connection.send(ask("same"))
        while (frame := json.loads(connection.recv(timeout=30)))["type"] != "error":
            pass
        assert frame["error"]["param"] == "id"
        for number in range(32):
            connection.send(ask(f"n{number}", max_tokens=400, ignore_eos=True))
        while (frame := json.loads(connection.recv(timeout=30)))["type"] != "error":
            pass
        assert frame["error"]["code"] == "too_many_requests"
    wait_for(lambda: live.worker_metric("chat-1", "vllm:num_requests_running") == 0, 15)


def test_a_socket_without_a_good_key_is_told_why_and_closed(simulated: Platform) -> None:
    with socket(simulated, key="sk-proj-wrong") as connection:
        frame = json.loads(connection.recv(timeout=10))
        assert frame["error"]["code"] == "invalid_api_key"
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(timeout=10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4401
