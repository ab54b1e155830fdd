"""Real vLLM in a host of its own; run by ``test_real_engine`` as a process, once.

Prints a JSON object: what its scenarios found. At the end it stops the engine's process
(SIGSTOP), as a hung one looks from outside, and waits to be ended.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import psutil
from django.conf import settings
from tokenizers import Tokenizer

from config.celery import app
from inference.engine_protocol import EngineSpec, Step
from inference.wire import Delta, Parsing, Sampling, Submission, WorkerUsage
from tests.workers.factory import make_submission
from workers.engine.host import EngineHost, ReplicaIdentity
from workers.engines.resume import resumed_detokenizer
from workers.engines.vllm import VllmEngine

CAPACITY = 8
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object"}},
}
BEGUN_CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Par'
PROMPTS = (
    "The capital of France is",
    "Once upon a time there was a miller who",
    "A recipe for bread: first, take flour, then",
    "The first ten prime numbers are",
)


class Heard:
    """In the outbox's place: what the host would send to its gateways."""

    def __init__(self) -> None:
        self.deltas: dict[str, list[Delta]] = defaultdict(list)
        self.usages: list[WorkerUsage] = []
        self._ended = threading.Condition()

    def put(self, gateway: str, delta: Delta, usage: WorkerUsage | None = None) -> None:
        with self._ended:
            self.deltas[delta.request_id].append(delta)
            if usage is not None:
                self.usages.append(usage)
            self._ended.notify_all()

    def wait_for(self, submissions: list[Submission], timeout_s: float = 240) -> None:
        def all_ended() -> bool:
            return all(self.has_ended(each.request_id) for each in submissions)

        with self._ended:
            assert self._ended.wait_for(all_ended, timeout_s), "sequences do not end"

    def has_ended(self, request_id: str) -> bool:
        deltas = self.deltas.get(request_id)
        return bool(deltas and deltas[-1].finish_reason)

    def text(self, request_id: str) -> str:
        return "".join(delta.text for delta in self.deltas[request_id])

    def ids(self, request_id: str) -> list[int]:
        return [token for delta in self.deltas[request_id] for token in delta.token_ids]


class Scenarios:
    def __init__(self, store: Path):
        self.tokenizer = Tokenizer.from_file(str(store / "tokenizer.json"))
        # In float32 a token's logits are the same to the last bits whatever it is computed
        # beside; in bfloat16 near ties fall either way, in one engine's own answers too.
        spec = EngineSpec(
            "smollm2", "chat", str(store), "float32", 2048, CAPACITY, tool_parser="hermes"
        )
        self.host = EngineHost(
            VllmEngine(), spec, ReplicaIdentity("chat-1", 1, 1), settings.REDIS_URL
        )
        self.steps: list[Step] = []
        stepped = self.host._stepped

        def note(step: Step) -> None:
            self.steps.append(step)
            stepped(step)

        self.host._stepped = note  # type: ignore[method-assign]
        self.host.start(300)
        self.heard = Heard()
        self.host._outbox.put = self.heard.put  # type: ignore[method-assign]

    def submission(self, prompt: list[int], sampling: Sampling, offset: int = 0) -> Submission:
        made = make_submission(sampling=sampling, incarnation=self.host.incarnation)
        return msgspec.structs.replace(made, prompt_ids=prompt, offset=offset)

    def run(self, *submissions: Submission) -> None:
        self.host.accept(list(submissions))
        self.heard.wait_for(list(submissions))

    def accounting(self) -> dict[str, Any]:
        """Bursts of short and long prompts: engine seconds against the busy wall time."""
        self.steps.clear()
        self.heard.usages.clear()
        charged_before = self.host._accounts.unattributed_s
        busy_s = 0.0
        for size in (1, CAPACITY + 4):
            prompts = [
                (
                    self.tokenizer.encode(f"{number} {PROMPTS[number % 4]}").ids
                    * (1 + 3 * (number % 4))
                )
                for number in range(size)
            ]
            began = time.monotonic()
            self.run(
                *(
                    self.submission(prompt, Sampling(max_tokens=16, ignore_eos=True))
                    for prompt in prompts
                )
            )
            busy_s += time.monotonic() - began
            time.sleep(0.3)  # idle: nobody's time
        return {
            "sequences": len(self.heard.usages),
            "charged_s": sum(usage.engine_us for usage in self.heard.usages) / 1e6,
            "least_us": min(usage.engine_us for usage in self.heard.usages),
            "steps_s": sum(step.duration_s for step in self.steps),
            "busy_s": busy_s,
            "unattributed_s": self.host._accounts.unattributed_s - charged_before,
            "kv_tokens": self.host._intake.kv_tokens,
            "profile": self.host._speed.profile.as_dict(),
        }

    def continuations(self) -> dict[str, Any]:
        """Each sampling, whole and from every fourth token on: what differs, if anything."""
        prompt = self.tokenizer.encode(PROMPTS[1]).ids
        plain = self.submission(prompt, Sampling(max_tokens=20, temperature=0.0))
        self.run(plain)
        text = self.heard.text(plain.request_id)
        found: dict[str, Any] = {"text": text}
        for name, sampling in {
            "greedy": Sampling(max_tokens=20, temperature=0.0, seed=7),
            "stop": Sampling(max_tokens=20, temperature=0.0, stop=[text[25:33], "never seen"]),
            "frequency": Sampling(max_tokens=20, temperature=0.0, frequency_penalty=0.9),
            "repetition": Sampling(max_tokens=20, temperature=0.0, repetition_penalty=1.3),
            "logprobs": Sampling(max_tokens=20, temperature=0.0, logprobs=2),
        }.items():
            assert sampling.can_continue, name
            found[name] = self._continued(prompt, sampling)
        return found

    def _continued(self, prompt: list[int], sampling: Sampling) -> dict[str, Any]:
        whole = self.submission(prompt, sampling)
        self.run(whole)
        ids, text = self.heard.ids(whole.request_id), self.heard.text(whole.request_id)
        sent = [""]
        for delta in self.heard.deltas[whole.request_id]:
            sent += [sent[-1] + delta.text] * len(delta.token_ids)
        rest = {}
        for cut in range(1, len(ids), 4):
            left = msgspec.structs.replace(sampling, max_tokens=sampling.max_tokens - cut)
            rest[cut] = self.submission(prompt + ids[:cut], left, offset=cut)
        self.run(*rest.values())
        wrong = [
            cut
            for cut, submission in rest.items()
            if ids[:cut] + self.heard.ids(submission.request_id) != ids
            or sent[cut] + self.heard.text(submission.request_id) != text
        ]
        reason = self.heard.deltas[whole.request_id][-1].finish_reason
        return {"cuts": len(rest), "wrong": wrong, "text": text, "finish": reason}

    def parsed(self) -> dict[str, Any]:
        """A tool call that another engine began: what is said of the rest, and of the whole."""
        prompt = self.tokenizer.encode("Call:").ids
        begun = self.tokenizer.encode(BEGUN_CALL).ids
        parsing = Parsing(tools=[WEATHER], tool_choice="auto")
        sampling = Sampling(max_tokens=12, temperature=0.0, parsing=parsing)
        assert sampling.can_continue
        rest = self.submission(prompt + begun, sampling, offset=len(begun))
        plain = msgspec.structs.replace(sampling, parsing=None, skip_special_tokens=False)
        raw = self.submission(prompt + begun, plain, offset=len(begun))
        self.run(rest, raw)
        engine: Any = self.host._engine
        whole = engine._parsers.open(self.submission(prompt, sampling), sampling, parsing)
        before, after = Delta("", 0, 0, begun, BEGUN_CALL), Delta("", 0, 0, [], "")
        after.token_ids, after.text = (
            self.heard.ids(raw.request_id),
            self.heard.text(raw.request_id),
        )
        after.finish_reason = "length"
        whole.apply(before)
        whole.apply(after)
        parts = [delta.message for delta in self.heard.deltas[rest.request_id] if delta.message]
        return {
            "names": [call.name for part in parts for call in part.tool_calls if call.name],
            "content": self.heard.text(rest.request_id),
            "arguments": "".join(call.arguments for part in parts for call in part.tool_calls),
            "expected": "".join(call.arguments for call in after.message.tool_calls)
            if after.message
            else "",
            "begun": [call.name for call in before.message.tool_calls if call.name]
            if before.message
            else [],
        }

    def constrained(self) -> dict[str, Any]:
        """What would have to go on within a grammar, and what no grammar can be made of."""
        prompt, sampling = [1, 2, 3], Sampling(max_tokens=8, structured={"regex": "[0-9]{6}"})
        assert not sampling.can_continue
        submissions = {
            "fresh": self.submission(prompt, sampling),
            "continued": self.submission([*prompt, 33], sampling, offset=1),
            "unknown": self.submission(prompt, Sampling(structured={"json": {}, "regex": "a"})),
            "empty": self.submission(prompt, Sampling(structured={"grammar": 'root ::= root "a"'})),
        }
        self.run(*submissions.values())
        # Without its child the next new grammar gets another.
        checker: Any = self.host._engine._grammars  # type: ignore[attr-defined]
        checker._child.kill()
        after = self.submission(prompt, Sampling(max_tokens=8, structured={"regex": "[a-c]{3}"}))
        self.run(after)
        ends = {name: self.heard.deltas[each.request_id][-1] for name, each in submissions.items()}
        return {
            "text": self.heard.text(submissions["fresh"].request_id),
            "after": self.heard.text(after.request_id),
            "errors": {name: end.error for name, end in ends.items()},
            "detail": ends["empty"].detail,
        }

    def detokenizer(self) -> dict[str, Any]:
        """Characters of several tokens, cut anywhere."""
        from vllm.v1.engine.detokenizer import IncrementalDetokenizer

        wrapped = self.host._engine._llm.output_processor.tokenizer  # type: ignore[attr-defined]
        prompt = self.tokenizer.encode("Say it: ").ids
        output = self.tokenizer.encode("🎉 naïve 漢字 👩‍🚀!").ids
        params = _params()
        whole = IncrementalDetokenizer.from_new_request(wrapped, _request(prompt, params))
        sent = [""]
        for token in output:
            whole.update([token], False)
            sent.append(sent[-1] + whole.get_next_output_text(False, True))
        wrong = []
        for cut in range(1, len(output)):
            request = _request(prompt + output[:cut], params)
            rest = resumed_detokenizer(wrapped, request, cut)
            rest.update(output[cut:], False)
            if sent[cut] + rest.get_next_output_text(True, True) != sent[-1]:
                wrong.append(cut)
        return {"cuts": len(output) - 1, "wrong": wrong, "text": sent[-1]}

    def hang(self) -> list[int]:
        """Stop vLLM's processes in the middle of a sequence, one more waiting in the queue."""
        children = psutil.Process().children(recursive=True)
        sampling = Sampling(max_tokens=500, ignore_eos=True)
        self.heard.deltas.clear()
        many = [self.submission([1, 2, 3], sampling) for _ in range(CAPACITY + 1)]
        self.host.accept(many)
        while not all(len(self.heard.deltas[each.request_id]) > 2 for each in many[:CAPACITY]):
            time.sleep(0.05)
        for child in children:
            child.send_signal(signal.SIGSTOP)
        return [child.pid for child in children]


def _params() -> Any:
    from vllm import SamplingParams

    return SamplingParams(max_tokens=100)


def _request(prompt: list[int], params: Any) -> Any:
    from vllm.v1.engine import EngineCoreRequest

    return EngineCoreRequest("r", prompt, None, params, None, 0.0, None, None, None)


def _parsers() -> dict[str, list[str]]:
    from vllm.reasoning import ReasoningParserManager
    from vllm.tool_parsers import ToolParserManager

    return {
        "tools": ToolParserManager.list_registered(),
        "reasoning": ReasoningParserManager.list_registered(),
    }


def say(**found: Any) -> None:
    print(json.dumps(found), flush=True)


def main() -> None:
    app.loader.import_default_modules()  # sets Django up, as a worker's start does
    scenarios = Scenarios(Path(sys.argv[1]))
    say(accounting=scenarios.accounting())
    say(continuations=scenarios.continuations())
    say(detokenizer=scenarios.detokenizer())
    say(parsed=scenarios.parsed())
    say(constrained=scenarios.constrained())
    say(parsers=_parsers())
    stopped = scenarios.hang()
    at = time.monotonic()
    say(stopped=stopped)
    while scenarios.host._heartbeat().is_proven:
        time.sleep(0.05)
    say(unproven_after_s=time.monotonic() - at)

    def leave(code: int) -> None:
        deltas = scenarios.heard.deltas.values()
        say(
            dead_after_s=time.monotonic() - at,
            ends=[each[-1].error for each in deltas if each[-1].finish_reason == "error"],
        )
        leave_for_good(code)

    leave_for_good, os._exit = os._exit, leave  # type: ignore[assignment]
    time.sleep(60)


if __name__ == "__main__":
    main()
