"""Lines of an input file: where they end, and what is wrong with them. Pure."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.batches.requests import Checked, Fault, RawLine, check_line, split_lines

CHAT = "/v1/chat/completions"
MOST = 10_000
GOOD: dict[str, Any] = {
    "custom_id": "a",
    "method": "POST",
    "url": CHAT,
    "body": {"model": "m", "messages": []},
}


def check(content: bytes | dict[str, Any], number: int = 7) -> Checked | Fault:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return check_line(RawLine(number, 0, raw, len(raw)), CHAT, MOST)


@given(
    st.lists(st.binary(max_size=40).filter(lambda line: b"\n" not in line), max_size=12),
    st.integers(1, 50),
)
def test_lines_are_found_whatever_the_pieces(lines: list[bytes], piece: int) -> None:
    """Places are right, blank lines counted, and what is too long is not kept."""
    file = b"\n".join(lines)
    chunks = [file[at : at + piece] for at in range(0, len(file), piece)]
    found = list(split_lines(chunks, 20))
    expected = [
        (number, line)
        for number, line in enumerate(lines, 1)
        if line.strip() or len(line) > 20
    ]  # fmt: skip
    assert [line.number for line in found] == [number for number, _ in expected]
    for line, (_, content) in zip(found, expected, strict=True):
        assert file[line.offset : line.offset + line.length] == content
        assert line.content == (None if len(content) > 20 else content)


def test_a_good_line_says_whom_it_asks() -> None:
    assert check(GOOD) == Checked("a", "m", len(b'{"model": "m", "messages": []}') // 4)


@pytest.mark.parametrize(
    ("content", "code", "param"),
    [
        (b"not json", "invalid_json_line", None),
        (b'{"custom_id": "a"', "invalid_json_line", None),
        (b"\xff\xfe", "invalid_json_line", None),
        (b"[" * 5_000, "invalid_request", None),
        (b"[]", "invalid_request", None),
        (GOOD | {"custom_id": 5}, "invalid_request", None),
        (GOOD | {"custom_id": ""}, "invalid_custom_id", "custom_id"),
        (GOOD | {"custom_id": "x" * 257}, "invalid_custom_id", "custom_id"),
        (GOOD | {"custom_id": "x\0"}, "invalid_custom_id", "custom_id"),
        (GOOD | {"method": "GET"}, "invalid_method", "method"),
        (GOOD | {"url": "/v1/embeddings"}, "invalid_url", "url"),
        (GOOD | {"url": "http://169.254.169.254/"}, "invalid_url", "url"),
        (GOOD | {"body": []}, "invalid_request", None),
        (GOOD | {"body": {"messages": []}}, "invalid_request", None),
        (GOOD | {"body": {"model": ""}}, "missing_required_parameter", "body.model"),
        (GOOD | {"body": {"model": "m", "stream": True}}, "invalid_request", "body.stream"),
    ],
)
def test_each_fault_is_named(content: Any, code: str, param: str | None) -> None:
    fault = check(content)
    assert isinstance(fault, Fault)
    assert (fault.code, fault.param, fault.line) == (code, param, 7)
    assert set(fault.told()) == {"code", "message", "param", "line"}


def test_a_bomb_of_braces_is_an_error_and_no_crash() -> None:
    bomb = json.dumps(GOOD).replace("[]", "[" * 3_000 + "]" * 3_000).encode()
    fault = check(bomb)
    assert isinstance(fault, Fault) and fault.code == "invalid_json_line"


def test_a_line_that_is_too_long_says_how_long() -> None:
    fault = check_line(RawLine(3, 0, None, 12_345), CHAT, MOST)
    assert isinstance(fault, Fault)
    assert (fault.code, fault.line) == ("line_too_long", 3) and "12345" in fault.message
