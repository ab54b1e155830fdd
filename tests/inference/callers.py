"""What callers of the dispatcher ask for, and what they see."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from inference.dispatch import Dispatcher, Job, Sequence
from inference.prompts import PromptRenderer
from inference.registry import Served
from inference.wire import Sampling
from tests.inference.peer import DEPLOYMENT
from tests.inference.tiny_models import write_tiny_model

_serial = itertools.count()


@cache
def tiny_renderer() -> PromptRenderer:
    with tempfile.TemporaryDirectory() as folder:
        return PromptRenderer.load(write_tiny_model(Path(folder) / "tiny"))


def make_served(
    deployment: int = DEPLOYMENT,
    *,
    weight: int = 100,
    region: str = "",
    dedicated_to: int | None = None,
) -> Served:
    return Served(
        deployment=deployment,
        name=f"deployment-{deployment}",
        version=deployment,
        version_label=f"tiny@{deployment}",
        region=region,
        batching_profile="latency",
        traffic_weight=weight,
        max_context_tokens=128,
        embedding_dimensions=None,
        renderer=tiny_renderer(),
        dedicated_to=dedicated_to,
    )


def make_job(
    sampling: Sampling | None = Sampling(max_tokens=10),  # noqa: B008 - frozen
    *,
    candidates: tuple[Served, ...] | None = None,
    prompt_ids: list[int] | None = None,
) -> Job:
    return Job(
        request_id=f"req-{next(_serial)}/0.0",
        organization=5,
        weight=1,
        prompt_ids=prompt_ids or [101, 102, 103],
        sampling=sampling,
        cache_salt="salt",
        candidates=candidates or (make_served(),),
    )


@dataclass
class Answer:
    """Everything a caller was given."""

    ids: list[int] = field(default_factory=list)
    text: str = ""
    finish_reason: str = ""


async def read_to_end(sequence: Sequence, timeout_s: float = 20) -> Answer:
    """Follow a sequence to its end; raises what ended it, or TimeoutError."""
    answer = Answer()
    async with asyncio.timeout(timeout_s):
        while not answer.finish_reason:
            await _read_one(sequence, answer)
    return answer


async def read_ids(sequence: Sequence, count: int, timeout_s: float = 20) -> list[int]:
    """Follow a sequence until it gave at least ``count`` tokens."""
    answer = Answer()
    async with asyncio.timeout(timeout_s):
        while len(answer.ids) < count:
            await _read_one(sequence, answer)
    return answer.ids


async def _read_one(sequence: Sequence, answer: Answer) -> None:
    output = await sequence.next_output()
    answer.ids += output.token_ids
    answer.text += output.text
    answer.finish_reason = output.finish_reason


async def eventually(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.01)


async def knows(dispatcher: Dispatcher, *names: str) -> None:
    """Wait until these replicas are known as ready."""
    replicas = dispatcher.fleet.replicas
    await eventually(
        lambda: all(name in replicas and replicas[name].state == "ready" for name in names)
    )
