"""Whole answers: the parts of each choice put together."""

from __future__ import annotations

from dataclasses import dataclass, field

from api.run import Run
from inference.wire import Logprob, MessagePart


@dataclass
class Choice:
    """One answer of several; choices are numbered prompt by prompt."""

    text: str = ""
    finish_reason: str = ""
    logprobs: list[Logprob] = field(default_factory=list)
    message: MessagePart | None = None
    prompt_logprobs: list[Logprob] | None = None


async def gather_choices(run: Run, count: int) -> list[Choice]:
    """Wait for all of a run's choices; raises what ended it."""
    choices = [Choice() for _ in range(count)]
    run.wait_for_all()
    async for part in run.parts():
        choice, output = choices[part.index], part.output
        choice.text += output.text
        choice.finish_reason = output.finish_reason
        if output.logprobs:
            choice.logprobs += output.logprobs
        if output.message is not None:
            before = choice.message
            choice.message = before.plus(output.message) if before else output.message
        if output.prompt_logprobs is not None:
            choice.prompt_logprobs = output.prompt_logprobs
    return choices
