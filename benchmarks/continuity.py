"""kill -9 of a replica in the middle of streams: what their clients see of it.

Two replicas serve the same streams at temperature 0 twice, once undisturbed and once with
one of the replicas' processes killed. Texts can only be equal where the engine computes a
sequence alike in whatever batch: float32 on CPUs; on GPUs vLLM's VLLM_BATCH_INVARIANT=1.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec
import psutil
import uvloop

from benchmarks import prompts
from benchmarks.arithmetic import percentile
from benchmarks.server import BenchmarkError, Server, say
from benchmarks.sizes import Sizes
from benchmarks.sluice import STATE_DIR, platform, replica_metric
from deploy.local.state import read_state

KILLED = "chat-1"
STREAM_TIMEOUT_S = 240.0
# The kill comes when this share of the undisturbed run's time is over.
KILL_AT = 0.4
BACK_WITHIN_S = 300.0
PROMPT_CHARACTERS = 60


@dataclass
class _Stream:
    """One answer as its client got it."""

    text: str = ""
    finish_reason: str = ""
    completion_tokens: int = 0
    error: str = ""
    pauses_s: list[float] = field(default_factory=list)  # between contents


@dataclass
class _Kill:
    """A replica's process to be killed, and what was so when it was."""

    pid: int
    after_s: float
    running: int = 0  # sequences in its engine
    tree: list[psutil.Process] = field(default_factory=list)

    def __call__(self) -> None:
        root = psutil.Process(self.pid)
        self.tree = [root, *root.children(recursive=True)]
        self.running = round(replica_metric(KILLED, "sluice_replica_running_sequences"))
        os.kill(self.pid, signal.SIGKILL)


def measure(sizes: Sizes) -> dict[str, object]:
    with platform("vllm", served=sizes.served, CHAT_REPLICAS="2") as server:
        uvloop.run(_run(server, sizes))  # compiles what is compiled at first use
        began = time.perf_counter()
        undisturbed = uvloop.run(_run(server, sizes))
        seconds = time.perf_counter() - began
        say(f"{len(undisturbed)} streams undisturbed: {seconds:.1f} s")
        again = uvloop.run(_run(server, sizes))
        kill = _Kill(server.roots[KILLED], after_s=seconds * KILL_AT)
        disturbed = uvloop.run(_run(server, sizes, kill))
        left = [process.pid for process in psutil.wait_procs(kill.tree, timeout=10)[1]]
        _await_back(kill.pid)
    _check(undisturbed, sizes)
    return {
        "streams": len(undisturbed),
        "tokens": sizes.continuity_tokens,
        "seconds_undisturbed": seconds,
        "complete": sum(_is_whole(each, sizes) for each in disturbed),
        "same_text": _same(undisturbed, disturbed),
        "same_text_without_kill": _same(undisturbed, again),
        "errors": sorted({each.error for each in disturbed if each.error}),
        "longest_pause_s": _longest(disturbed),
        "longest_pause_undisturbed_s": _longest(undisturbed),
        "processes_left": left,
        "ran_on_killed": kill.running,
        "batch_invariant": os.environ.get("VLLM_BATCH_INVARIANT", ""),
    }


def _same(one: list[_Stream], other: list[_Stream]) -> int:
    return sum(a.text == b.text for a, b in zip(one, other, strict=True))


def _longest(streams: list[_Stream]) -> dict[str, float]:
    longest = [max(each.pauses_s, default=0.0) for each in streams]
    return {"p50": percentile(longest, 0.5), "most": max(longest)}


def _check(streams: list[_Stream], sizes: Sizes) -> None:
    for each in streams:
        if not _is_whole(each, sizes):
            raise BenchmarkError(f"An undisturbed stream ended early: {each.error or each}")


def _is_whole(stream: _Stream, sizes: Sizes) -> bool:
    tokens = stream.completion_tokens
    return stream.finish_reason == "length" and tokens == sizes.continuity_tokens


def _await_back(old_pid: int) -> None:
    """Until the supervisor has a new process for the killed one."""
    deadline = time.monotonic() + BACK_WITHIN_S
    while time.monotonic() < deadline:
        for process in read_state(STATE_DIR).processes:
            if process.name == KILLED and process.pid not in (None, old_pid):
                return
        time.sleep(0.1)
    raise BenchmarkError(f"{KILLED} was not started again within {BACK_WITHIN_S:g} s.")


async def _run(server: Server, sizes: Sizes, kill: _Kill | None = None) -> list[_Stream]:
    texts = itertools.islice(prompts.distinct(0, PROMPT_CHARACTERS), sizes.continuity_streams)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=STREAM_TIMEOUT_S, limits=limits) as client:
        tasks = [
            asyncio.create_task(_read(client, server, text, sizes.continuity_tokens))
            for text in texts
        ]
        if kill is not None:
            await asyncio.sleep(kill.after_s)
            await asyncio.to_thread(kill)
            if not kill.running:
                raise BenchmarkError("Nothing ran on the replica that was killed.")
        return await asyncio.gather(*tasks)


async def _read(client: httpx.AsyncClient, server: Server, text: str, tokens: int) -> _Stream:
    body = {
        "model": server.model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    stream, last_at = _Stream(), None
    headers = {"Authorization": f"Bearer {server.key}"}
    try:
        async with client.stream("POST", server.chat, json=body, headers=headers) as answer:
            async for line in answer.aiter_lines():
                if answer.status_code != 200:
                    stream.error = f"{answer.status_code} {line[:200]}"
                elif line.startswith("data: {") and _take(stream, msgspec.json.decode(line[6:])):
                    now = time.perf_counter()
                    if last_at is not None:
                        stream.pauses_s.append(now - last_at)
                    last_at = now
    except httpx.HTTPError as error:
        stream.error = repr(error)
    return stream


def _take(stream: _Stream, frame: dict[str, Any]) -> bool:
    """Whether the frame had content."""
    if "error" in frame:
        stream.error = str(frame["error"])
    if usage := frame.get("usage"):
        stream.completion_tokens = usage["completion_tokens"]
    for choice in frame.get("choices", ()):
        stream.finish_reason = choice.get("finish_reason") or stream.finish_reason
        if content := choice["delta"].get("content"):
            stream.text += content
            return True
    return False
