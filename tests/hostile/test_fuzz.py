"""Every endpoint with bodies, paths, headers and bytes that nobody would send: no 5xx, no hang,
and never a word of another organization. Cases come from the OpenAPI document.

``FUZZ_EXAMPLES`` says how many cases each operation gets of each kind; few by default.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.api.reference import DOCUMENT, SHAPES, TOKEN_PATH
from tests.harness.platform import CHAT_MODEL, Platform
from tests.hostile.fuzzing import (
    CANARY,
    EXAMPLES,
    FUZZED,
    LONGEST_S,
    Prey,
    check_is_harmless,
    make_prey,
    still_works,
    with_ids,
    with_working_values,
)

# Without its securities: a case that is to be wrong would be wrong in its key, and not be read.
SURFACE = schemathesis.openapi.from_dict(
    {
        **DOCUMENT,
        "paths": {
            path: {
                method: {name: part for name, part in operation.items() if name != "security"}
                for method, operation in found.items()
            }
            for path, found in DOCUMENT["paths"].items()
        },
    }
)
_TOKEN_PATHS = {path for _, path, _ in TOKEN_PATH} - {"/v1/stream"}  # the socket has its own
# Bytes cost less than a request that is made for its schema.
CHEAP = settings(FUZZED, max_examples=EXAMPLES * 30)
MODES = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]


@pytest.fixture(scope="module")
def prey(simulated: Platform) -> Iterator[tuple[Prey, Prey]]:
    yield make_prey(simulated)
    still_works(simulated)


def operations(*, is_token_path: bool) -> list[Any]:
    found = [result.ok() for result in SURFACE.get_all_operations()]
    chosen = [each for each in found if (each.path in _TOKEN_PATHS) == is_token_path]
    return [each for each in chosen if each.path != "/v1/stream"]


def bare(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Without how the content came: it has been unpacked."""
    return [
        each for each in headers if each[0].lower() not in ("content-encoding", "content-length")
    ]


def fuzz(
    prey: Prey, operation: Any, mode: GenerationMode, keys: list[str], examples: int = EXAMPLES
) -> None:
    declared = DOCUMENT["paths"][operation.path][operation.method.lower()]

    @settings(FUZZED, max_examples=examples)
    @given(case=operation.as_strategy(generation_mode=mode), pick=st.integers(0, 1000))
    def run(case: Any, pick: int) -> None:
        case.path_parameters = with_ids(operation.path, case.path_parameters or {}, prey, pick)
        if case.media_type == "application/json":
            case.body = with_working_values(case.body, prey, pick)
        headers = {"Authorization": f"Bearer {keys[pick % len(keys)]}"}
        began = time.monotonic()
        response = case.call(
            base_url=prey.platform.url, headers=headers, timeout=LONGEST_S * 2,
            allow_redirects=False,
        )  # fmt: skip
        headers = [(name, value) for name, all_ in response.headers.items() for value in all_]
        answer = httpx.Response(
            response.status_code, headers=bare(headers), content=response.content
        )
        check_is_harmless(prey, declared, answer, began, case.as_curl_command())

    run()


def can_be_wrong(operation: Any) -> bool:
    """Whether there is more than a path, whose every text is as good as another."""
    declared = DOCUMENT["paths"][operation.path][operation.method.lower()]
    places = {each["in"] for each in declared.get("parameters", ())}
    return "requestBody" in declared or bool(places - {"path"})


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_no_request_of_the_token_path_breaks_anything(
    prey: tuple[Prey, Prey], mode: GenerationMode
) -> None:
    target = prey[0]
    before, found = target.tried, operations(is_token_path=True)
    for operation in found:
        if mode is GenerationMode.POSITIVE or can_be_wrong(operation):
            fuzz(target, operation, mode, [target.key])
    assert len(found) > 40 and target.tried - before >= len(found) // 2
    assert {400, 404} <= target.answered


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_no_request_of_the_management_api_breaks_anything(
    prey: tuple[Prey, Prey], mode: GenerationMode
) -> None:
    target = prey[1]
    before, found = target.tried, operations(is_token_path=False)
    # Each key has a bound of calls a minute.
    half = target.admin_keys[:3] if mode is GenerationMode.POSITIVE else target.admin_keys[3:]
    for operation in found:
        if mode is GenerationMode.POSITIVE or can_be_wrong(operation):
            fuzz(target, operation, mode, half, max(1, EXAMPLES // 2))
    assert len(found) > 100 and target.tried - before >= len(found) // 2
    assert 404 in target.answered


# --- Bytes ------------------------------------------------------------------------------------

_BODY = json.dumps(
    {"model": CHAT_MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
).encode()


def whole_request(key: str, path: str, body: bytes) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    ).encode() + body


@st.composite
def broken(draw: Any, content: bytes) -> bytes:
    """A request with some of it cut out, doubled, put elsewhere or replaced."""
    made = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(made)))
        to = min(len(made), at + draw(st.integers(0, 40)))
        kind = draw(st.sampled_from(("cut", "double", "replace", "insert")))
        if kind == "cut":
            del made[at:to]
        elif kind == "double":
            made[at:at] = made[at:to]
        elif kind == "insert":
            made[at:at] = draw(st.sampled_from(ODD))
        else:
            made[at:to] = draw(st.binary(max_size=40))
    return bytes(made)


ODD = (
    b"\x00", b"\r\n\r\n", b"\r\n", b"\n", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n", b"Expect: 100-continue\r\n", b"Upgrade: websocket\r\n", b"\xff" * 64,
    b"A" * 70_000, b"[" * 5_000, b'{"a":' * 3_000, b"\\ud800", b"1e999999", b"-0", b"../..", b"%2e%2e/",
)  # fmt: skip


def exchange(platform: Platform, content: bytes) -> bytes:
    """What the server says to these bytes, after which nothing more will come."""
    address = ("127.0.0.1", platform.port)
    said = b""
    with socket.create_connection(address, timeout=LONGEST_S) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65_536):
                said += part
    return said


def check_bytes(said: bytes, content: bytes, began: float) -> None:
    took = time.monotonic() - began
    assert took < LONGEST_S, (took, content)
    assert CANARY.encode() not in said, content
    for line in said.split(b"\r\n"):
        if line.startswith(b"HTTP/1.1 "):
            assert line.split()[1] < b"500", (content, said[:500])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", _BODY),
        ("/v1/files", b"--b\r\nContent-Disposition: form-data; name=x\r\n\r\n1\r\n--b--"),
        ("/v1/organization/projects", b'{"name": "A"}'),
    ],
    ids=["chat", "files", "management"],
)
def test_no_bytes_break_http(prey: tuple[Prey, Prey], path: str, body: bytes) -> None:
    target = prey[1] if "organization" in path else prey[0]
    key = target.admin_keys[0] if "organization" in path else target.key
    tried = []

    @CHEAP
    @given(broken(whole_request(key, path, body)))
    def run(content: bytes) -> None:
        began = time.monotonic()
        check_bytes(exchange(target.platform, content), content, began)
        tried.append(content)

    run()
    assert len(tried) >= EXAMPLES
    still_works(target.platform)


@contextlib.contextmanager
def opened(prey: Prey) -> Iterator[Any]:
    headers = {"Authorization": f"Bearer {prey.key}"}
    address = f"ws://127.0.0.1:{prey.platform.port}/v1/stream"
    with connect(address, additional_headers=headers, open_timeout=10) as connection:
        yield connection


FRAME = {
    "type": "request", "id": "a", "endpoint": "/v1/chat/completions", "body": json.loads(_BODY),
    "headers": {"x-sluice-cache": "no-cache"},
}  # fmt: skip
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=10,
)


@st.composite
def frames(draw: Any) -> str | bytes:
    """A frame of which one field is anything, or bytes, or a text that is no frame."""
    kind = draw(st.sampled_from(("field", "field", "text", "bytes", "broken")))
    if kind == "bytes":
        return draw(st.binary(max_size=200))
    if kind == "text":
        return draw(st.text(max_size=200))
    name = draw(
        st.sampled_from(("type", "id", "endpoint", "body", "headers", "after", "request_id"))
    )
    kinds = st.sampled_from(("request", "resume", "cancel"))
    frame = FRAME | {"type": draw(kinds), "request_id": "0" * 24} | {name: draw(_JSON)}
    text = json.dumps(frame)
    return text if kind == "field" else draw(broken(text.encode())).decode("utf-8", "replace")


def test_no_frames_break_a_socket(prey: tuple[Prey, Prey]) -> None:
    target = prey[0]
    tried = []

    @CHEAP
    @given(st.lists(frames(), min_size=1, max_size=8))
    def run(some: list[str | bytes]) -> None:
        began = time.monotonic()
        with opened(target) as connection, contextlib.suppress(ConnectionClosed):
            for frame in some:
                connection.send(frame)
            # The last is answered when all before it were read.
            connection.send(json.dumps(FRAME | {"id": "last"}))
            while time.monotonic() - began < LONGEST_S:
                told = json.loads(connection.recv(timeout=LONGEST_S))
                check_frame(told, some)
                if told.get("id") == "last" and told["type"] == "done":
                    break
        assert time.monotonic() - began < LONGEST_S, some
        tried.append(some)

    run()
    assert len(tried) >= EXAMPLES
    still_works(target.platform)


def check_frame(told: dict[str, Any], sent: object) -> None:
    assert CANARY not in json.dumps(told), sent
    if told["type"] == "error":
        assert set(told["error"]) == set(SHAPES["ErrorDetail"]["properties"])
        assert told["error"]["type"] not in ("server_error", "api_error"), (told, sent)


def test_no_bytes_break_a_websocket(prey: tuple[Prey, Prey]) -> None:
    """Bytes in place of frames, after a handshake that is one."""
    target = prey[0]
    hello = (
        "GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"Authorization: Bearer {target.key}\r\n\r\n"
    ).encode()
    masked = b"\x81\x85\x00\x00\x00\x00hello"

    @CHEAP
    @given(st.lists(st.binary(min_size=1, max_size=300) | broken(masked), min_size=1, max_size=4))
    def run(parts: list[bytes]) -> None:
        began = time.monotonic()
        said = exchange(target.platform, hello + b"".join(parts))
        check_bytes(said, b"".join(parts), began)
        assert said.startswith(b"HTTP/1.1 101 "), said[:200]

    run()
    still_works(target.platform)


def test_the_canary_would_be_heard(simulated: Platform, prey: tuple[Prey, Prey]) -> None:
    """Whose it is does see it, so that what the others do not see is something."""
    assert EXAMPLES > 0
    with simulated.http(simulated.other_key) as client:
        assert CANARY in client.get("/v1/files").text
        assert CANARY in client.get("/v1/chat/completions").text
    with simulated.http(simulated.demo["SLUICE_OTHER_ADMIN_KEY"]) as client:
        assert CANARY in client.get("/v1/organization/projects").text
