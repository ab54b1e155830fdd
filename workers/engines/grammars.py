"""Whether vLLM's engine may be given a grammar: compiled elsewhere first.

xgrammar compiles in the engine's own processes, where a crash ends every sequence and a
hang stops them. So each grammar that was not seen before is compiled by a child
(``grammar_child``) under bounds of time and memory; a verdict is kept by the grammar's
hash. The child starts with the engine and again when it is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from workers.engines.grammar_child import MOST_AT_ONCE, MOST_WALL_S

log = logging.getLogger(__name__)

MOST_VERDICTS = 4_096
# New ones at a time, so that the last of them is answered while its client still waits.
MOST_WAITING = 4
ANSWER_TIMEOUT_S = MOST_WALL_S * MOST_WAITING / MOST_AT_ONCE


class TooManyGrammars(Exception):
    """So many new ones wait to be compiled that a further one is refused for now."""


class _ChildEnded(Exception):
    """The child died with its answer, or before it was asked."""


class _Child:
    """One child process, and the thread that hears it."""

    def __init__(
        self,
        tokenizer: str,
        answered: Callable[[dict[str, Any]], None],
        ended: Callable[[_Child], None],
    ):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "workers.engines.grammar_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # xgrammar's warnings, one for each token of a regex
        )
        self._answered = answered
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._has_tokenizer = threading.Event()
        threading.Thread(target=self._run, args=(tokenizer,), name="grammars", daemon=True).start()

    def kill(self) -> None:
        self._process.kill()

    def send(self, line: dict[str, Any]) -> None:
        """Blocks while the pipe is full; call it in a thread."""
        if not self._has_tokenizer.wait(ANSWER_TIMEOUT_S):
            raise OSError("the child takes no tokenizer")
        self._write(json.dumps(line))

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def _run(self, tokenizer: str) -> None:
        assert self._process.stdout is not None
        try:
            self._write(tokenizer)
            self._has_tokenizer.set()
            for line in self._process.stdout:
                self._loop.call_soon_threadsafe(self._answered, json.loads(line))
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: the loop is closed
            log.warning("grammars.child_ended", extra={"error": repr(error)})
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._ended, self)
        self._process.wait()


class GrammarChecker:
    """``tokenizer`` is what ``xgrammar.TokenizerInfo.serialize_json`` gave. Used on one loop."""

    def __init__(self, tokenizer: str, any_whitespace: bool = True):
        self._tokenizer = tokenizer
        self._any_whitespace = any_whitespace
        self._verdicts: OrderedDict[bytes, str] = OrderedDict()
        self._pending: dict[bytes, asyncio.Task[str]] = {}
        self._asked: dict[int, tuple[_Child, asyncio.Future[str]]] = {}
        self._number = 0
        self._child: _Child | None = None

    def start(self) -> _Child:
        """The child's imports take seconds: have it ready before it is needed."""
        if self._child is None:
            self._child = _Child(self._tokenizer, self._answered, self._ended)
        return self._child

    def stop(self) -> None:
        if self._child is not None:
            self._child.kill()

    async def problem(self, structured: Any) -> str:
        """What speaks against vLLM's ``StructuredOutputsParams``; empty if nothing does.

        Raises TooManyGrammars when it cannot be said now.
        """
        from vllm.exceptions import VLLMClientError

        try:
            kind, text = grammar_of(structured)
        except (ValueError, VLLMClientError) as error:
            return str(error)
        key = hashlib.sha256(f"{kind}:{text}".encode()).digest()
        if (verdict := self._verdicts.get(key)) is not None:
            self._verdicts.move_to_end(key)
            return verdict
        pending = self._pending.get(key)
        if pending is None:
            if len(self._pending) >= MOST_WAITING:
                raise TooManyGrammars
            pending = self._pending[key] = asyncio.create_task(self._ask(kind, text))
            pending.add_done_callback(lambda task: self._judged(key, task))
        return await asyncio.shield(pending)

    def _judged(self, key: bytes, task: asyncio.Task[str]) -> None:
        del self._pending[key]
        if task.cancelled() or task.exception() is not None:
            return
        self._verdicts[key] = task.result()
        if len(self._verdicts) > MOST_VERDICTS:
            self._verdicts.popitem(last=False)

    async def _ask(self, kind: str, text: str) -> str:
        line = {"kind": kind, "text": text, "any_whitespace": self._any_whitespace}
        try:
            return await self._ask_child(line)
        except _ChildEnded:
            # Not by this one, perhaps: a fork of its own compiles each.
            log.warning("grammars.asked_again")
        try:
            return await self._ask_child(line)
        except _ChildEnded as error:
            raise TooManyGrammars from error

    async def _ask_child(self, line: dict[str, Any]) -> str:
        child = self.start()
        self._number += 1
        number = self._number
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._asked[number] = child, answer
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await asyncio.to_thread(child.send, line | {"id": number})
                return await answer
        except TimeoutError as error:
            # Whatever it was given, it does not answer: a new child for the others.
            log.error("grammars.child_lost", extra={"error": repr(error)})
            child.kill()
            raise TooManyGrammars from error
        except OSError as error:
            raise _ChildEnded from error
        finally:
            del self._asked[number]
            if answer.done() and not answer.cancelled():
                answer.exception()  # nobody may have waited for it

    def _ended(self, child: _Child) -> None:
        if self._child is child:
            self._child = None
        for asked_of, answer in self._asked.values():
            if asked_of is child and not answer.done():
                answer.set_exception(_ChildEnded())

    def _answered(self, answer: dict[str, Any]) -> None:
        _, asked = self._asked.get(answer["id"], (None, None))
        if asked is not None and not asked.done():
            asked.set_result(answer["problem"])


def grammar_of(structured: Any) -> tuple[str, str]:
    """Kind and text as the engine will compile them; ValueError says what it would refuse.

    The same checks as vLLM's ``validate_xgrammar_grammar``, but for those that call
    xgrammar.
    """
    from vllm.sampling_params import check_json_nesting
    from vllm.v1.structured_output.backend_xgrammar import has_xgrammar_unsupported_json_features
    from vllm.v1.structured_output.utils import choice_as_grammar, grammar_is_likely_lark

    if structured.json is not None:
        schema = structured.json
        check_json_nesting(schema)
        if isinstance(schema, str):
            schema = json.loads(schema)
        if has_xgrammar_unsupported_json_features(schema):
            raise ValueError("it has features that cannot be enforced")
        return "json", json.dumps(schema)
    if structured.json_object:
        return "json", '{"type": "object"}'
    if structured.regex is not None:
        return "regex", structured.regex
    if structured.choice is not None:
        return "grammar", choice_as_grammar(structured.choice)
    if structured.grammar is not None:
        is_lark = grammar_is_likely_lark(structured.grammar)
        return ("lark" if is_lark else "grammar"), structured.grammar
    check_json_nesting(structured.structural_tag, structural_tag=True)
    return "structural_tag", structured.structural_tag
