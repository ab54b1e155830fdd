"""Whole answers: the parts of each choice put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from api.run import Part, Run
from inference.dispatch import Output
from inference.wire import Logprob, MessagePart


@dataclass
class Choice:
    """One answer of several; choices are numbered prompt by prompt."""

    text: str = ""
    finish_reason: str = ""
    logprobs: list[Logprob] = field(default_factory=list)
    message: MessagePart | None = None
    prompt_logprobs: list[Logprob] | None = None

    def add(self, output: Output) -> None:
        self.text += output.text
        self.finish_reason = output.finish_reason
        if output.logprobs:
            self.logprobs += output.logprobs
        if output.message is not None:
            before = self.message
            self.message = before.plus(output.message) if before else output.message
        if output.prompt_logprobs is not None:
            self.prompt_logprobs = output.prompt_logprobs


async def gather_choices(run: Run, count: int) -> list[Choice]:
    """Wait for all of a run's choices; raises what ended it."""
    choices = [Choice() for _ in range(count)]
    run.wait_for_all()
    async for part in run.parts():
        choices[part.index].add(part.output)
    return choices


class Recorder:
    """The parts of a run as they come, and what they are together."""

    def __init__(self, run: Run, count: int):
        self._run = run
        self.choices = [Choice() for _ in range(count)]

    async def parts(self) -> AsyncIterator[Part]:
        async for part in self._run.parts():
            self.choices[part.index].add(part.output)
            yield part
