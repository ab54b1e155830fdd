"""How a sequence's output reaches its caller: by waking it, all at once, or around it."""

from __future__ import annotations

import asyncio

import pytest

from inference.dispatch import Sequence
from inference.errors import RequestFailed
from inference.wire import Delta
from tests.inference.callers import make_job


def part(text: str, finish_reason: str = "") -> Delta:
    return Delta("r", 1, 0, [len(text)], text, finish_reason=finish_reason)


class Written:
    """A client that takes parts until it is slow."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.is_slow = False

    def take(self, delta: Delta) -> bool:
        if not self.is_slow:
            self.texts.append(delta.text)
        return not self.is_slow


@pytest.fixture
def client() -> Written:
    return Written()


@pytest.fixture
def sequence(client: Written) -> Sequence:
    sequence = Sequence(make_job())
    sequence.take = client.take
    return sequence


async def waiting(sequence: Sequence) -> asyncio.Task[str]:
    """A caller that waits for the next part, and gives its text."""

    async def next_text() -> str:
        return (await sequence.next_output()).text

    task = asyncio.create_task(next_text())
    await asyncio.sleep(0)
    return task


async def test_while_the_caller_waits_parts_go_around_it(
    sequence: Sequence, client: Written
) -> None:
    caller = await waiting(sequence)
    for text in "abc":
        sequence.accept(part(text))
    await asyncio.sleep(0)
    assert client.texts == ["a", "b", "c"] and not caller.done()
    assert sequence.output_ids == [1, 1, 1]
    sequence.accept(part("d", "stop"))
    assert await caller == "d"


async def test_what_a_caller_has_not_dealt_with_stays_before_what_follows(
    sequence: Sequence, client: Written
) -> None:
    sequence.accept(part("a"))  # nobody waits yet
    assert (await sequence.next_output()).text == "a"
    # It is sending that now: what comes meanwhile must not overtake it.
    sequence.accept(part("b"))
    sequence.accept(part("c"))
    assert client.texts == []
    assert (await sequence.next_output()).text == "bc"


async def test_a_slow_client_gets_the_rest_by_its_caller(
    sequence: Sequence, client: Written
) -> None:
    caller = await waiting(sequence)
    sequence.accept(part("a"))
    client.is_slow = True
    sequence.accept(part("b"))
    client.is_slow = False
    # The caller has been woken and not run: this part is behind the one it will get.
    sequence.accept(part("c"))
    assert await caller == "bc" and client.texts == ["a"]
    caller = await waiting(sequence)
    sequence.accept(part("d"))
    assert client.texts == ["a", "d"]
    caller.cancel()


async def test_an_error_is_the_callers(sequence: Sequence, client: Written) -> None:
    caller = await waiting(sequence)
    sequence.accept(part("a"))
    sequence.fail(RequestFailed("it broke"))
    with pytest.raises(RequestFailed):
        await caller
    assert client.texts == ["a"]


async def test_who_waits_for_all_is_woken_once() -> None:
    sequence = Sequence(make_job())
    sequence.waits_for_all = True
    caller = await waiting(sequence)
    for text in "abc":
        sequence.accept(part(text))
        await asyncio.sleep(0)
    assert not caller.done()
    sequence.accept(part("d", "length"))
    assert await caller == "abcd"
    assert sequence.output_ids == [1, 1, 1, 1]
