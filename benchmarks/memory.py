"""Memory of the web process over many requests: it must stay flat once warm."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import uvloop

from benchmarks import prompts
from benchmarks.arithmetic import Outcome, growth
from benchmarks.cpu import rss_bytes
from benchmarks.load import Ask, make_ask, run_load
from benchmarks.server import RESULTS, BenchmarkError, Server, say
from benchmarks.sizes import Sizes
from benchmarks.sluice import platform
from deploy.local.programs import EMBEDDING_DEPLOYMENT

CONCURRENCY = 32
# Tokens take a moment, so that a client can go away in the middle of its answer.
PROFILE = {"prefill_tokens_per_s": 0, "decode_ms": 1, "decode_ms_per_running": 0}
# Far below what the embedding model reads at once.
EMBEDDED_CHARACTERS = 200
# What answers to requests that are wrong on purpose.
REFUSALS = frozenset({400, 401, 404})


@dataclass
class Tally:
    """Counts outcomes, and the web process's memory at every so many of them."""

    pid: int
    every: int
    done: int = 0
    unexpected: list[str] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)
    samples: list[tuple[int, int]] = field(default_factory=list)

    def take(self, outcome: Outcome) -> None:
        self.done += 1
        label = "hung up" if outcome.has_hung_up else str(outcome.status)
        key = f"{outcome.kind}: {label}"
        self.statuses[key] = self.statuses.get(key, 0) + 1
        is_refused = outcome.kind == "refused" and outcome.status in REFUSALS
        if outcome.status != 200 and not is_refused and len(self.unexpected) < 5:
            self.unexpected.append(f"{key} {outcome.error}")
        if self.done % self.every == 0:
            self.samples.append((self.done, rss_bytes(self.pid)))
            if self.done % (self.every * 5) == 0:
                say(f"{self.done} requests: {self.samples[-1][1] / 2**20:.1f} MiB")


def measure(sizes: Sizes) -> dict[str, object]:
    RESULTS.mkdir(exist_ok=True)
    profile = RESULTS / "memory-profile.json"
    profile.write_text(json.dumps(PROFILE))
    with platform("simulated", str(profile)) as server:
        tally = Tally(server.roots["web"], sizes.memory_every)
        began = time.monotonic()
        uvloop.run(
            run_load(
                itertools.islice(_mix(server), sizes.memory_requests),
                server.url,
                concurrency=CONCURRENCY,
                most_s=sizes.memory_most_s,
                on_outcome=tally.take,
            )
        )
        seconds = time.monotonic() - began
    if tally.unexpected:
        raise BenchmarkError("Unexpected answers: " + "; ".join(tally.unexpected))
    last, most = growth(tally.samples, sizes.memory_warm_up)
    say(f"memory: {last:+.1%} at the end, {most:+.1%} at most")
    return {
        "requests": tally.done,
        "wanted": sizes.memory_requests,
        "warm_up": sizes.memory_warm_up,
        "seconds": seconds,
        "statuses": dict(sorted(tally.statuses.items())),
        "samples": tally.samples,
        "growth": last,
        "largest_deviation": most,
    }


def _mix(server: Server) -> Iterator[Ask]:
    """Of 20 requests 10 chats, 4 streams, 3 embeddings, 2 refused, 1 whose client leaves.

    Every prompt is new: caches fill up as they would with real traffic.
    """
    embeddings = f"{server.url}/v1/embeddings"
    for number, prompt in enumerate(prompts.distinct()):
        slot = number % 20
        chat = {
            "model": server.model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": 4,
        }
        stream = chat | {"stream": True, "stream_options": {"include_usage": True}}
        if slot < 10:
            yield make_ask(server.chat, chat, server.key)
        elif slot < 14:
            yield make_ask(server.chat, stream, server.key, kind="stream")
        elif slot < 17:
            body = {"model": EMBEDDING_DEPLOYMENT, "input": prompt[:EMBEDDED_CHARACTERS]}
            yield make_ask(embeddings, body, server.key, kind="embedding")
        elif slot < 19:
            yield _refused(server, chat, number)
        else:
            left = stream | {"max_tokens": 1000}
            yield make_ask(server.chat, left, server.key, kind="left", hangs_up=True)


def _refused(server: Server, chat: dict[str, object], number: int) -> Ask:
    """Requests that must be refused: five kinds in turn."""
    match number // 20 % 5:
        case 0:
            return make_ask(server.chat, b'{"model": ', server.key, kind="refused")
        case 1:
            return make_ask(server.chat, chat, f"sk-{number:048d}", kind="refused")
        case 2:
            return make_ask(server.chat, chat | {"model": "none"}, server.key, kind="refused")
        case 3:
            return make_ask(server.chat, chat | {"temperature": 99}, server.key, kind="refused")
        case _:
            return make_ask(server.chat, chat | {"messages": []}, server.key, kind="refused")
