"""The WebSocket's doors and bounds: tickets, origins, limits, revocation, slow readers, restarts."""

from __future__ import annotations

import base64
import json
import os
import socket as sockets
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.api.conftest import MOST_SOCKETS
from tests.harness.platform import CHAT_MODEL, Platform, wait_for

CHAT = "/v1/chat/completions"
TICKETS = "/v1/stream/tickets"
ORIGIN = "https://app.example.com"


@pytest.fixture
def platform(unhurried: Platform) -> Platform:
    return unhurried


def url_of(platform: Platform) -> str:
    return f"ws://127.0.0.1:{port_of(platform)}/v1/stream"


def port_of(platform: Platform) -> int:
    """At which one of its gateways alone answers."""
    return int(json.loads((platform.state_dir / "ports.json").read_text())["web"])


@contextmanager
def by_key(platform: Platform, key: str | None = None) -> Iterator[ClientConnection]:
    headers = {"Authorization": f"Bearer {key or platform.key}"}
    with connect(url_of(platform), additional_headers=headers, open_timeout=20) as connection:
        yield connection


@contextmanager
def by_ticket(
    platform: Platform, ticket: str, origin: str | None = ORIGIN
) -> Iterator[ClientConnection]:
    offered: Any = ["sluice.v1", f"ticket.{ticket}"]
    with connect(
        url_of(platform),
        subprotocols=offered,
        origin=origin,
        open_timeout=20,  # type: ignore[arg-type]
    ) as connection:
        yield connection


def ticket_of(platform: Platform, **fields: Any) -> str:
    with platform.http() as client:
        answer = client.post(TICKETS, json={"origin": ORIGIN, **fields})
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return str(answer.json()["ticket"])


def ask(name: str, endpoint: str = CHAT, headers: Any = None, **fields: Any) -> str:
    body = {"model": CHAT_MODEL, "messages": [{"role": "user", "content": f"Say {name}"}],
            "max_tokens": 4, "stream": True, "ignore_eos": True, **fields}  # fmt: skip
    frame = {"type": "request", "id": name, "endpoint": endpoint, "body": body}
    return json.dumps(frame | ({"headers": headers} if headers else {}))


def until_done(connection: ClientConnection) -> list[dict[str, Any]]:
    frames = [json.loads(connection.recv(timeout=30))]
    while frames[-1]["type"] != "done":
        frames.append(json.loads(connection.recv(timeout=30)))
    return frames


def refused(connection: ClientConnection) -> tuple[str, int]:
    """The code of the error and of the close of a socket that is turned away."""
    frame = json.loads(connection.recv(timeout=10))
    return frame["error"]["code"], closed(connection)


def closed(connection: ClientConnection, timeout_s: float = 15) -> int:
    deadline = time.monotonic() + timeout_s
    with pytest.raises(ConnectionClosed) as found:
        while True:
            connection.recv(timeout=max(0.01, deadline - time.monotonic()))
    assert found.value.rcvd is not None
    return int(found.value.rcvd.code)


# --- Tickets ------------------------------------------------------------------------------


def test_a_ticket_opens_one_socket_once_for_its_origin(platform: Platform) -> None:
    ticket = ticket_of(platform)
    with by_ticket(platform, ticket) as connection:
        assert connection.subprotocol == "sluice.v1"
        connection.send(ask("a"))
        frames = until_done(connection)
        assert frames[0]["type"] == "chunk"
        status = platform.usage_row(frames[-1]["request_id"], "status")
        assert status == ("completed",)
    with by_ticket(platform, ticket) as connection:
        assert refused(connection) == ("invalid_api_key", 4401)


@pytest.mark.parametrize(
    "origin", ["https://evil.example.com", "http://app.example.com", "null", None]
)
def test_another_origin_is_turned_away_and_the_ticket_is_spent(
    platform: Platform, origin: str | None
) -> None:
    ticket = ticket_of(platform)
    with by_ticket(platform, ticket, origin) as connection:
        assert refused(connection) == ("invalid_api_key", 4401)
    with by_ticket(platform, ticket) as connection:
        assert refused(connection) == ("invalid_api_key", 4401)


def test_a_ticket_is_for_its_endpoints_and_for_its_time(platform: Platform) -> None:
    with by_ticket(platform, ticket_of(platform, endpoints=["/v1/completions"])) as connection:
        connection.send(ask("a"))
        error, done = until_done(connection)
        assert (error["type"], done["type"]) == ("error", "done")
        assert "ticket" in error["error"]["message"]
    ticket = ticket_of(platform, expires_in=1)
    time.sleep(1.2)
    with by_ticket(platform, ticket) as connection:
        assert refused(connection) == ("invalid_api_key", 4401)


def test_the_key_is_not_in_redis(platform: Platform) -> None:
    ticket_of(platform)
    client = platform.redis()
    kept = [client.get(name) or b"" for name in client.scan_iter("ticket:*")]
    assert kept and all(platform.key.encode() not in each for each in kept)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "origin"),
        ({"origin": "app.example.com"}, "origin"),
        ({"origin": "https://app.example.com/path"}, "origin"),
        ({"origin": "javascript://a"}, "origin"),
        ({"origin": ORIGIN, "expires_in": 301}, "expires_in"),
        ({"origin": ORIGIN, "expires_in": 0}, "expires_in"),
        ({"origin": ORIGIN, "endpoints": []}, "endpoints"),
        ({"origin": ORIGIN, "endpoints": ["/v1/files"]}, "endpoints[0]"),
        ({"origin": ORIGIN, "more": 1}, "more"),
    ],
)
def test_odd_tickets_are_refused(platform: Platform, body: dict[str, Any], param: str) -> None:
    with platform.http() as client:
        answer = client.post(TICKETS, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_tickets_are_for_projects_keys(platform: Platform) -> None:
    for key, status in ((platform.demo["SLUICE_ADMIN_KEY"], 403), ("sk-proj-wrong", 401)):
        with platform.http(key) as client:
            assert client.post(TICKETS, json={"origin": ORIGIN}).status_code == status
    with platform.http() as client:
        assert client.get(TICKETS).status_code == 405


@pytest.mark.parametrize("text", ["", "a", "x" * 43, "x" * 8000, "../" * 14 + "x"])
def test_a_ticket_that_is_none_is_turned_away(platform: Platform, text: str) -> None:
    offered = f"sluice.v1, ticket.{text}".replace("/", "~")
    with raw_socket(platform, f"Sec-WebSocket-Protocol: {offered}\r\n") as connection:
        head = connection.recv(65536)
        assert b" 101 " in head.split(b"\r\n")[0] or b" 4" in head.split(b"\r\n")[0]
        connection.settimeout(1)
        received = head.split(b"\r\n\r\n", 1)[1] + _rest(connection)
        if b" 101 " in head.split(b"\r\n")[0]:
            assert b"invalid_api_key" in received and struct.pack("!H", 4401) in received


# --- Bounds -------------------------------------------------------------------------------


def test_a_key_has_so_many_sockets(platform: Platform) -> None:
    opened = [by_key(platform) for _ in range(MOST_SOCKETS)]
    try:
        for each in opened:
            each.__enter__()
        with by_key(platform) as connection:
            assert refused(connection) == ("rate_limit_exceeded", 1013)
        with by_key(platform, platform.other_key) as connection:
            connection.send(ask("other"))
            assert until_done(connection)[0]["type"] == "chunk"
    finally:
        for each in opened:
            each.__exit__(None, None, None)

    def is_free() -> bool:
        with by_key(platform) as connection:
            connection.send(ask("again"))
            return bool(until_done(connection)[0]["type"] == "chunk")

    assert wait_for(is_free, 10)


def test_a_socket_that_idles_is_closed_and_one_that_works_is_not(platform: Platform) -> None:
    with by_key(platform) as idle, by_key(platform) as working:
        working.send(ask("long", max_tokens=450))
        assert closed(idle, 25) == 4408
        assert until_done(working)[-1]["type"] == "done"


def test_a_flood_of_frames_closes_the_socket(platform: Platform) -> None:
    with by_key(platform) as connection:
        try:
            for _ in range(400):
                connection.send("{")
        except ConnectionClosed:
            pass
        assert closed(connection) == 1008


def test_a_frame_that_is_too_large_closes_the_socket(platform: Platform) -> None:
    authorization = f"Authorization: Bearer {platform.key}\r\n"
    with raw_socket(platform, authorization) as connection:
        assert b" 101 " in connection.recv(4096)
        # Its head says so already; nobody reads what would follow.
        connection.sendall(b"\x81\xff" + struct.pack("!Q", 4 * 1024 * 1024 + 1) + b"\0\0\0\0")
        assert struct.pack("!H", 1009) in connection.recv(4096)


def test_a_revoked_key_closes_its_sockets_within_a_second(platform: Platform) -> None:
    made = platform.admin().projects.list().data[0]
    with httpx.Client(
        base_url=platform.url,
        headers={"Authorization": f"Bearer {platform.demo['SLUICE_ADMIN_KEY']}"},
    ) as client:
        path = f"/v1/organization/projects/{made.id}/service_accounts"
        account = client.post(path, json={"name": f"Robot {time.time()}"}).json()
        key = account["api_key"]
        with by_key(platform, key["value"]) as connection, by_key(platform) as other:
            connection.send(ask("long", max_tokens=600))
            assert json.loads(connection.recv(timeout=20))["type"] == "chunk"
            keys = f"/v1/organization/projects/{made.id}/api_keys/{key['id']}"
            deleted = client.delete(keys)
            if deleted.status_code >= 400:  # keys of accounts go with them
                deleted = client.delete(f"{path}/{account['id']}")
            assert deleted.status_code == 200, deleted.text
            began = time.monotonic()
            assert closed(connection) == 4401
            assert time.monotonic() - began < 1.5, "1 s, and what this machine adds"
            other.send(ask("other"))
            assert until_done(other)[0]["type"] == "chunk"


# --- Slow readers, resuming ----------------------------------------------------------------


def test_a_reader_that_stands_still_stops_its_own_streams_alone(platform: Platform) -> None:
    """Its gateway holds what the kernel and one buffer hold, and no more."""
    authorization = f"Authorization: Bearer {platform.key}\r\n"
    with raw_socket(platform, authorization, buffer=4096) as slow, by_key(platform) as other:
        assert b" 101 " in slow.recv(4096)
        for number in range(20):
            slow.sendall(masked(ask(f"s{number}", max_tokens=200).encode()))
        for _ in range(5):
            other.send(ask("quick"))
            began = time.monotonic()
            assert until_done(other)[-1]["type"] == "done"
            assert time.monotonic() - began < 5


def test_a_stream_is_resumed_on_another_socket(platform: Platform) -> None:
    with by_key(platform) as connection:
        connection.send(ask("a", headers={"x-sluice-resumable": "true"}, max_tokens=60))
        frames = [json.loads(connection.recv(timeout=20)) for _ in range(5)]
    numbers = [frame["event"] for frame in frames]
    assert numbers == [1, 2, 3, 4, 5]
    request_id = frames[0]["data"]["id"].removeprefix("chatcmpl-")
    with by_key(platform) as connection:
        resume = {"type": "resume", "id": "b", "request_id": request_id, "after": 5}
        connection.send(json.dumps(resume))
        rest = until_done(connection)
        assert [frame["event"] for frame in rest[:-1]] == list(range(6, 5 + len(rest)))
        assert rest[-2]["data"]["choices"][0]["finish_reason"] == "length"
        assert rest[-1]["request_id"] == request_id
    with by_key(platform, platform.other_key) as connection:
        connection.send(json.dumps(resume))
        error, done = until_done(connection)
        assert (error["error"]["code"], done["type"]) == ("stream_not_found", "done")
    with platform.http() as client:
        text = client.get(f"/v1/streams/{request_id}", headers={"Last-Event-ID": "5"}).text
    assert [int(line[4:]) for line in text.split("\n") if line.startswith("id: ")] == [
        frame["event"] for frame in rest[:-1]
    ], "by HTTP too"


@pytest.mark.parametrize("headers", [None, {"x-sluice-resumable": "true"}])
def test_a_cancelled_request_does_not_go_on(platform: Platform, headers: Any) -> None:
    with by_key(platform) as connection:
        connection.send(ask("a", headers=headers, max_tokens=900))
        frame = json.loads(connection.recv(timeout=20))
        connection.send(json.dumps({"type": "cancel", "id": "a"}))
        until_done(connection)
    request_id = frame["data"]["id"].removeprefix("chatcmpl-")
    status, made = platform.usage_row(request_id, "status, completion_tokens")
    assert status == "cancelled" and made < 900


# --- Raw bytes ----------------------------------------------------------------------------


@contextmanager
def raw_socket(platform: Platform, headers: str, buffer: int = 0) -> Iterator[sockets.socket]:
    connection = sockets.socket()
    if buffer:
        connection.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, buffer)
    connection.settimeout(10)
    connection.connect(("127.0.0.1", port_of(platform)))
    nonce = base64.b64encode(os.urandom(16)).decode()
    connection.sendall(
        (
            "GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {nonce}\r\nSec-WebSocket-Version: 13\r\n"
            f"{headers}\r\n"
        ).encode()
    )
    with connection:
        yield connection


def masked(payload: bytes, opcode: int = 1, fin: bool = True) -> bytes:
    size = len(payload)
    head = bytes([(0x80 if fin else 0) | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65536:
        head += bytes([0x80 | 126]) + struct.pack("!H", size)
    else:
        head += bytes([0x80 | 127]) + struct.pack("!Q", size)
    return head + b"\0\0\0\0" + payload


def _rest(connection: sockets.socket) -> bytes:
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except OSError:
        pass
    return received


@pytest.mark.parametrize(
    "content",
    [
        b"\x81\x05hello",  # not masked
        b"\xf1\x80\0\0\0\0",  # reserved bits
        b"\x83\x80\0\0\0\0",  # an opcode that is none
        b"\x80\x80\0\0\0\0",  # a continuation of nothing
        b"\x89\xfe\x00\x7e\0\0\0\0" + b"x" * 126,  # a ping that is too long
        b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",  # 2**64 - 1 bytes
        b"\x81\xff\x00\x00\x00\x01\x00\x00\x00\x00\0\0\0\0",  # 4 GiB
        masked(b"\xff\xfe\xfd"),  # no UTF-8
        masked(b"[" * 100_000),
        masked(b'{"type":"request","id":"a","endpoint":"/v1/embeddings","body":' + b"[" * 9000),
        os.urandom(4096),
    ],
)
def test_raw_bytes_end_their_own_socket_at_most(platform: Platform, content: bytes) -> None:
    authorization = f"Authorization: Bearer {platform.key}\r\n"
    with raw_socket(platform, authorization) as connection:
        assert b" 101 " in connection.recv(4096)
        connection.sendall(content)
        connection.settimeout(1.5)
        assert b"Traceback" not in _rest(connection)
    with by_key(platform) as connection:
        connection.send(ask("after"))
        assert until_done(connection)[0]["type"] == "chunk"


def test_frames_in_pieces_are_put_together(platform: Platform) -> None:
    authorization = f"Authorization: Bearer {platform.key}\r\n"
    whole = ask("pieces").encode()
    with raw_socket(platform, authorization) as connection:
        assert b" 101 " in connection.recv(4096)
        connection.sendall(masked(whole[:20], 1, fin=False) + masked(b"", 9))
        for byte in whole[20:40]:
            connection.sendall(masked(bytes([byte]), 0, fin=False))
        connection.sendall(masked(whole[40:], 0))
        received = b""
        while b'"done"' not in received:
            received += connection.recv(65536)
        assert b'"chunk"' in received


def test_a_restart_says_goodbye_and_what_can_be_resumed(platform: Platform) -> None:
    with by_key(platform) as idle, by_key(platform) as working, by_key(platform) as keeping:
        working.send(ask("plain", max_tokens=100))
        keeping.send(ask("kept", headers={"x-sluice-resumable": "true"}, max_tokens=100))
        json.loads(working.recv(timeout=20))
        kept = json.loads(keeping.recv(timeout=20))
        os.kill(platform.pid("web"), 15)
        assert json.loads(idle.recv(timeout=15)) == {"type": "goodbye", "running": {}}
        assert closed(idle) == 1012
        frames = until_done(working)
        assert {"type": "goodbye", "running": {}} in frames
        assert frames[-2]["data"]["choices"][0]["finish_reason"] == "length", "it was not cut"
        assert closed(working) == 1012
        while kept["type"] != "goodbye":
            kept = json.loads(keeping.recv(timeout=20))
        assert list(kept["running"]) == ["kept"]
        assert closed(keeping) == 1012

    def resumed() -> str | None:
        try:
            with platform.http() as client:
                answer = client.get(f"/v1/streams/{kept['running']['kept']}")
        except httpx.HTTPError:
            return None
        return answer.text if answer.status_code == 200 else None

    text = wait_for(resumed, 60, 0.3)
    assert text is not None and '"finish_reason":"length"' in text and text.endswith("[DONE]\n\n")
