"""Compiles grammars where a crash or a hang harms nobody; ``grammars`` runs it as a process.

The first line that it reads is the tokenizer as xgrammar knows it; each further one a
grammar, ``{"id": 1, "kind": "regex", "text": "…"}``, answered by ``{"id": 1, "problem":
"…"}``, empty if the engine may have it. Each is compiled in a fork, with bounds on time
and memory, by the functions that the engine calls afterwards. No vLLM: that would be
three times the memory.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import selectors
import signal
import sys
import time
from typing import Any

# Of one grammar. An ordinary schema takes some hundredths of a second.
MOST_CPU_S = 3.0
MOST_WALL_S = 15.0
MOST_MEMORY_BYTES = 2 * 2**30
MOST_AT_ONCE = 2
MOST_PROBLEM_CHARACTERS = 500
# A pipe takes so much in one piece: forks may write at the same time.
MOST_LINE_BYTES = 4_096
TOO_COMPLEX = "it is too complex: compiling it takes too long or too much memory"
_PR_SET_PDEATHSIG = 1
# "[21:18:08] /project/cpp/json_schema_converter.cc:1053: ", of xgrammar's own errors.
_PLACE = re.compile(r"\[[\d:]+\] \S+?:\d+: ")


def problem_of(tokenizer: Any, request: dict[str, Any]) -> str:
    """What the engine does with a grammar before its first token. In a fork only."""
    import xgrammar

    # Threads do not come along into a fork: a compiler of its own, without any.
    compiler = xgrammar.GrammarCompiler(tokenizer, max_threads=1)
    text = request["text"]
    match request["kind"]:
        case "json":
            whitespace = request["any_whitespace"]
            separators = None if whitespace else (",", ":")
            compiled = compiler.compile_json_schema(
                text, any_whitespace=whitespace, separators=separators
            )
        case "regex":
            compiled = compiler.compile_regex(text)
        case "lark":
            compiled = compiler.compile_lark(text)
        case "structural_tag":
            compiled = compiler.compile_structural_tag(text)
        case _:
            compiled = compiler.compile_grammar(text)
    mask = xgrammar.allocate_token_bitmask(1, tokenizer.vocab_size)
    xgrammar.GrammarMatcher(compiled).fill_next_token_bitmask(mask, 0)
    return "" if mask.any() else "no text matches it"


def _said(error: Exception) -> str:
    """Its words, without places in somebody's source code."""
    text = _PLACE.sub("", str(error)).strip()
    return (text or type(error).__name__)[:MOST_PROBLEM_CHARACTERS]


def _compile_and_exit(tokenizer: Any, request: dict[str, Any]) -> None:
    """The whole life of a fork."""
    signal.setitimer(signal.ITIMER_PROF, MOST_CPU_S)
    with open("/proc/self/statm") as statm:
        most = int(statm.read().split()[0]) * resource.getpagesize() + MOST_MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        problem = problem_of(tokenizer, request)
    except MemoryError:
        problem = TOO_COMPLEX
    except Exception as error:  # whatever a library raises about a grammar is the verdict
        problem = _said(error)
    _answer(request["id"], problem)
    os._exit(0)


def _answer(number: int, problem: str) -> None:
    line = json.dumps({"id": number, "problem": problem}).encode() + b"\n"
    if len(line) > MOST_LINE_BYTES:  # escapes made it long
        line = json.dumps({"id": number, "problem": problem[:200]}).encode() + b"\n"
    os.write(1, line)


class Forks:
    """Those under way, by process id: which request, and until when it may take."""

    def __init__(self, tokenizer: Any):
        self._tokenizer = tokenizer
        self._running: dict[int, tuple[int, float]] = {}

    def __len__(self) -> int:
        return len(self._running)

    def start(self, request: dict[str, Any]) -> None:
        pid = os.fork()
        if pid == 0:
            _compile_and_exit(self._tokenizer, request)
        self._running[pid] = (request["id"], time.monotonic() + MOST_WALL_S)

    def reap(self) -> None:
        """Answer for those that ended without an answer, or that take too long."""
        for pid, (number, deadline) in list(self._running.items()):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self._running[pid]
                if status:
                    _answer(number, TOO_COMPLEX)


def serve(forks: Forks, unread: bytes) -> None:
    """Until standard input ends."""
    waiting: list[dict[str, Any]] = []
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    while True:
        *lines, unread = unread.split(b"\n")
        waiting += [json.loads(line) for line in lines]
        forks.reap()
        while waiting and len(forks) < MOST_AT_ONCE:
            forks.start(waiting.pop(0))
        # While forks run their ends are looked for.
        if selector.select(0.005 if forks else None):
            read = os.read(0, 1 << 20)
            if not read:
                return
            unread += read


def main() -> None:
    # Gone with the worker, also when it is killed.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    import xgrammar

    head = b""
    while b"\n" not in head:
        read = os.read(0, 1 << 20)
        if not read:
            sys.exit("no tokenizer")
        head += read
    serialized, unread = head.split(b"\n", 1)
    tokenizer = xgrammar.TokenizerInfo.deserialize_json(serialized.decode())
    _answer(0, "")  # ready
    serve(Forks(tokenizer), unread)


if __name__ == "__main__":
    main()
