"""Header smuggling: two hops that read one request differently (request smuggling, of which
CVE-2026-49468 is the latest kind here). Odd heads are refused or read in one way only.
"""

from __future__ import annotations

import pytest

from tests.harness.platform import Platform
from tests.hostile.raw import BODY, CHAT, bearer, get, post, request, send

WRONG = "sk-proj-" + "a" * 52


@pytest.mark.parametrize("path", ["/v1/models", "/v1/organization/projects"])
def test_two_authorization_headers_are_an_error(simulated: Platform, path: str) -> None:
    for keys in ((simulated.key, WRONG), (WRONG, simulated.key), (simulated.key, simulated.key)):
        answer = get(simulated, path, *map(bearer, keys))
        assert answer.status == 401, (keys, answer)
        assert simulated.key.encode() not in answer.body


def test_a_name_that_only_looks_like_authorization_is_none(simulated: Platform) -> None:
    key = simulated.key.encode()
    for header in (
        b"Authorization_: Bearer " + key,
        b"X-Authorization: Bearer " + key,
        b"Proxy-Authorization: Bearer " + key,
        b"Authorization : Bearer " + key,
        b" Authorization: Bearer " + key,
        b"Authorization\t: Bearer " + key,
        b"Auth\0orization: Bearer " + key,
        b"Cookie: Authorization=Bearer " + key,
    ):
        answer = get(simulated, "/v1/models", b"Accept: */*", header)
        assert answer.status in (0, 400, 401), (header, answer)


@pytest.mark.parametrize(
    "value",
    [b"Bearer \xff\xfe", "Bearer sk-proj-é".encode(), b"Bearer\0x", b"Bearer a b c", b"Bearer\t\t",
     b"Bearer " + b"a" * 60_000, b"Bearer " + b"%s" * 1_000, b"bEARER sk-proj-", b"\x7f\x01"],
)  # fmt: skip
def test_an_odd_value_is_refused_quickly(simulated: Platform, value: bytes) -> None:
    for path in ("/v1/models", "/v1/organization/projects"):
        answer = get(simulated, path, b"Authorization: " + value)
        assert answer.status in (0, 400, 401, 431), answer
        assert len(answer.body) < 2_000


def test_a_key_behind_a_line_break_is_another_header_or_nothing(simulated: Platform) -> None:
    """What a client's own text could add to a head: CR, LF, a folded line."""
    key = simulated.key.encode()
    for glue in (b"\r\n", b"\n", b"\r", b"\r\n ", b"\n\t"):
        head = b"X-Note: a" + glue + b"Authorization: Bearer " + key
        answer = get(simulated, "/v1/models", head)
        # A whole line break begins a header, as it must; nothing else does.
        assert answer.status in ((0, 200, 400) if glue in (b"\r\n", b"\n") else (0, 400, 401))


@pytest.mark.parametrize(
    "framing",
    [
        (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        (b"Content-Length: 5", b"Content-Length: 6"),
        (b"Content-Length: +5",),
        (b"Content-Length: 5, 5",),
        (b"Content-Length: 0x5",),
        (b"Content-Length: " + b"9" * 5_000,),
        (b"Content-Length: -1",),
        (b"Transfer-Encoding: chunked, identity",),
        (b"Transfer-Encoding: xchunked",),
        (b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
    ],
)  # fmt: skip
def test_two_lengths_never_hide_a_second_request(
    simulated: Platform, framing: tuple[bytes, ...]
) -> None:
    hidden = request("GET", "/v1/models", bearer(simulated.key))
    head = b"\r\n".join(
        [b"POST " + CHAT.encode() + b" HTTP/1.1", b"Host: 127.0.0.1", bearer(simulated.key),
         b"Content-Type: application/json", *framing]
    )  # fmt: skip
    answer = send(simulated, head + b"\r\n\r\n0\r\n\r\n" + hidden, timeout_s=5)

    assert answer.status in (0, 400, 413, 501), answer
    assert b'"object":"list"' not in answer.body


def test_a_pipelined_request_is_judged_by_its_own_key(simulated: Platform) -> None:
    first = b"POST %b HTTP/1.1\r\nHost: 127.0.0.1\r\n%b\r\n" % (
        CHAT.encode(),
        bearer(simulated.key),
    )
    first += b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY)
    answer = send(simulated, first + BODY + request("GET", "/v1/models"))
    assert answer.status == 200
    second = answer.body[int(answer.headers["content-length"]) :]
    assert not second or b" 401 " in second.split(b"\r\n", 1)[0]


def test_a_head_without_end_is_bounded(simulated: Platform) -> None:
    flood = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"".join(
        b"X-%d: %b\r\n" % (number, b"a" * 1_000) for number in range(4_000)
    )
    answer = send(simulated, flood + b"\r\n")
    assert answer.status in (0, 400, 401, 431), answer
    assert get(simulated, "/v1/models", bearer(simulated.key)).status == 200
    assert post(simulated, CHAT, bearer(simulated.key)).status == 200
