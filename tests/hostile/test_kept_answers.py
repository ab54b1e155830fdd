"""Keys and positions as no client sends them: nobody gets another's answer, and nothing breaks."""

from __future__ import annotations

import json

import pytest

from tests.harness.platform import Platform
from tests.hostile import raw
from tests.hostile.raw import bearer


@pytest.mark.parametrize(
    "lines",
    [
        (b"Idempotency-Key: one", b"idempotency-key: two"),
        (b"Idempotency-Key: one", b"Idempotency-Key: one"),
        (b"Idempotency-Key:",),
        (b"Idempotency-Key: a b",),
        (b"Idempotency-Key: a\tb",),
        (b"Idempotency-Key: \xff\xfe",),
        (b"Idempotency-Key: \xc3\xa9",),
        (b"Idempotency-Key: " + b"x" * 256,),
        (b"X-Sluice-Resumable: true", b"Idempotency-Key: " + b"y" * 9_000),
    ],
)
def test_keys_that_are_none_run_nothing(simulated: Platform, lines: tuple[bytes, ...]) -> None:
    answer = raw.post(simulated, "/v1/chat/completions", bearer(simulated.key), *lines)
    assert answer.status == 400
    assert answer.error["param"] == "idempotency-key"
    client = simulated.redis()
    assert not list(client.scan_iter("*" + "x" * 32 + "*"))


def test_a_key_is_no_pattern_and_no_place(simulated: Platform) -> None:
    """Of two organizations, with a text that is special where it might be put together."""
    for text in (b"*", b"..", b"{a}", b"%2e%2e%2f", b"a:b:meta", b"';--", b"$(id)"):
        line = b"Idempotency-Key: " + text
        mine = raw.post(simulated, "/v1/chat/completions", bearer(simulated.key), line)
        theirs = raw.post(simulated, "/v1/chat/completions", bearer(simulated.other_key), line)
        assert mine.status == theirs.status == 200
        assert json.loads(mine.body)["id"] != json.loads(theirs.body)["id"]
        assert "idempotent-replayed" not in theirs.headers


def test_anothers_stream_is_as_absent_as_none(simulated: Platform) -> None:
    body = json.dumps(json.loads(raw.BODY) | {"stream": True}).encode()
    lines = (bearer(simulated.key), b"X-Sluice-Resumable: true")
    made = raw.post(simulated, "/v1/chat/completions", *lines, body=body)
    assert made.status == 200 and made.headers["x-sluice-resumable"] == "true"
    found = made.headers["x-request-id"]
    absent = "0" * len(found)
    answers = [
        raw.get(simulated, f"/v1/streams/{name}", bearer(simulated.other_key))
        for name in (found, absent)
    ]
    assert [answer.status for answer in answers] == [404, 404]
    messages = [answer.error["message"] for answer in answers]
    assert messages[0].replace(found, absent) == messages[1]
    assert raw.get(simulated, f"/v1/streams/{found}").status == 401


@pytest.mark.parametrize(
    "target",
    [
        "/v1/streams/", "/v1/streams/..", "/v1/streams/%2e%2e/models", "/v1/streams/{}/meta",
        "/v1/streams/{}:meta", "/v1/streams/{}%00", "/v1/streams/" + "a" * 6_000,
        "/v1/streams/%ff%fe", "/v1/streams/*", "/v1/streams/ABCDEFABCDEFABCDEFABCDEF",
    ],
)  # fmt: skip
def test_targets_that_are_no_stream(simulated: Platform, target: str) -> None:
    answer = raw.get(simulated, target.replace("{}", "0" * 24), bearer(simulated.key))
    assert answer.status in (400, 404)


@pytest.mark.parametrize(
    "position", [b"-1", b"+1", b"1.0", b"0x1", b"1e9", b"\xff", b"NaN", b"1" * 5_000, b"1, 2"]
)
def test_positions_that_are_none(simulated: Platform, position: bytes) -> None:
    line = b"Last-Event-ID: " + position
    # The position is looked at first, so it tells nothing of whether there is a stream.
    answer = raw.get(simulated, "/v1/streams/" + "0" * 24, bearer(simulated.key), line)
    assert answer.status == 400
    assert answer.error["param"] in ("last-event-id", "starting_after")


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b"{", b"[" * 100_000, b'{"origin":' + b'{"a":' * 5_000, b"\xff",
     b'{"origin":"https://a.example","origin":1}'],
)  # fmt: skip
def test_tickets_of_odd_bodies(simulated: Platform, body: bytes) -> None:
    answer = raw.post(simulated, "/v1/stream/tickets", bearer(simulated.key), body=body)
    assert answer.status == 400
    assert set(answer.error) == {"message", "type", "param", "code"}
