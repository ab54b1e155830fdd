"""A batch of short requests through the platform, beside the engine alone fed without a pause.

The engine is the simulated one with the timing of a GPU; what is measured is whether the way
from file to file (claims, limits, dispatch, commits, ledger) keeps every place of it filled.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import django
import openai

from benchmarks import sluice
from benchmarks.server import BenchmarkError, Server, say
from benchmarks.sizes import Sizes

# As in docs/rooms/workers.md, "Feeding the engine".
PROFILE = {"prefill_tokens_per_s": 8_000, "decode_ms": 18.0, "decode_ms_per_running": 0.15}
OUTPUT_TOKENS = 8
WAIT_S = 1_800.0


def measure(sizes: Sizes) -> dict[str, object]:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    with tempfile.NamedTemporaryFile("w", suffix=".json") as profile:
        json.dump(PROFILE, profile)
        profile.flush()
        rounds = []
        with sluice.platform("simulated", profile.name) as server:
            places = sluice.engine_settings().max_num_seqs
            for number in range(sizes.batch_rounds):
                found = _run_batch(server, sizes.batch_lines)
                found["engine_s"] = asyncio.run(
                    _run_engine(Path(profile.name), places, sizes.batch_lines, found["prompt"])
                )
                found["share"] = found["engine_s"] / found["batch_s"]
                say(f"round {number + 1}: {found}")
                rounds.append(found)
    return {
        "lines": sizes.batch_lines,
        "output_tokens": OUTPUT_TOKENS,
        "places": places,
        "profile": PROFILE,
        "rounds": rounds,
        "share": statistics.median(each["share"] for each in rounds),
        "batch_s": statistics.median(each["batch_s"] for each in rounds),
        "engine_s": statistics.median(each["engine_s"] for each in rounds),
    }


def _run_batch(server: Server, lines: int) -> dict[str, float]:
    """From the first line's start to the last one's result, and the tokens of a prompt."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key) as client:
        file = client.files.create(
            file=("lines.jsonl", _input(server.model, lines)), purpose="batch"
        )
        batch = client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        deadline = time.monotonic() + WAIT_S
        began = ended = 0.0
        while not ended:
            batch = client.batches.retrieve(batch.id)
            now = time.monotonic()
            if now > deadline or batch.status in ("failed", "expired", "cancelled"):
                raise BenchmarkError(f"The batch is {batch.status}.")
            if not began and batch.status != "validating":
                began = now
            if batch.status in ("finalizing", "completed"):
                ended = now
            time.sleep(0.02)
        counts = batch.request_counts
        if counts is None or counts.completed != lines or batch.usage is None:
            raise BenchmarkError(f"The batch ended with {counts}.")
        return {"batch_s": ended - began, "prompt": round(batch.usage.input_tokens / lines)}


def _input(model: str, lines: int) -> io.BytesIO:
    file = io.BytesIO()
    for number in range(lines):
        body = {
            "model": model,
            "max_tokens": OUTPUT_TOKENS,
            "messages": [{"role": "user", "content": f"Number {number:05d}?"}],
        }
        line = {"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions"}
        file.write(json.dumps(line | {"body": body}).encode() + b"\n")
    file.seek(0)
    return file


async def _run_engine(profile: Path, places: int, lines: int, prompt_tokens: float) -> float:
    """The same requests in the engine alone, the next one in as soon as a place is free."""
    django.setup()
    from inference.engine_protocol import EngineSpec
    from inference.wire import Delta, Sampling, Submission
    from workers.engines.simulated import Profile, SimulatedEngine

    free = asyncio.Semaphore(places)
    ended = asyncio.Event()
    left = lines

    def emit(delta: Delta) -> None:
        nonlocal left
        if delta.finish_reason:
            free.release()
            left -= 1
            if not left:
                ended.set()

    engine = SimulatedEngine()
    await engine.start(EngineSpec("m", "chat", "", "", 2_048, places), emit, _fail)
    engine._profile = Profile.load(str(profile))
    began = time.monotonic()
    for number in range(lines):
        await free.acquire()
        prompt = [number % 97, number // 97, *range(int(prompt_tokens) - 2)]
        await engine.submit(
            Submission(
                request_id=f"r{number}/0.0", attempt=0, gateway="", incarnation="",
                organization=1, weight=1, prompt_ids=prompt,
                sampling=Sampling(max_tokens=OUTPUT_TOKENS), cache_salt="",
                submitted_at=time.time(),
            )
        )  # fmt: skip
    await ended.wait()
    took_s = time.monotonic() - began
    await engine.stop()
    return took_s


def _fail(error: BaseException) -> None:
    raise error
