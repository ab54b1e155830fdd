"""Log lines: access lines leave together, the rest at once, and none out of order."""

from __future__ import annotations

import asyncio
import io
import logging

import pytest

from config import logging as log_lines
from config.logging import BUFFERED, LineHandler


@pytest.fixture
def handler() -> LineHandler:
    handler = LineHandler()
    handler.stream = io.StringIO()
    return handler


def emit(handler: LineHandler, name: str, text: str) -> None:
    handler.handle(logging.LogRecord(name, logging.INFO, "", 0, text, None, None))


def written(handler: LineHandler) -> list[str]:
    return handler.stream.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


async def test_access_lines_wait_a_moment_and_leave_in_their_order(
    handler: LineHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_lines, "FLUSH_S", 0.02)
    for text in "abc":
        emit(handler, BUFFERED, text)
    assert written(handler) == []
    await asyncio.sleep(0.1)
    assert written(handler) == ["a", "b", "c"]
    emit(handler, BUFFERED, "d")
    await asyncio.sleep(0.1)
    assert written(handler) == ["a", "b", "c", "d"]


async def test_any_other_line_goes_at_once_after_those_that_wait(handler: LineHandler) -> None:
    emit(handler, BUFFERED, "a")
    emit(handler, "api.asgi", "b")
    assert written(handler) == ["a", "b"]


async def test_what_waits_is_written_when_logging_ends(handler: LineHandler) -> None:
    emit(handler, BUFFERED, "a")
    handler.flush()
    assert written(handler) == ["a"]


def test_without_a_loop_nothing_waits(handler: LineHandler) -> None:
    emit(handler, BUFFERED, "a")
    assert written(handler) == ["a"]
