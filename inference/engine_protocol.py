"""What an engine is to the worker that owns it; ``workers/engines`` has the two.

An engine runs on the worker's event loop. ``submit`` hands a sequence over and
returns; output arrives by calls of ``emit`` on the same loop, the last of them
with a ``finish_reason``, named by the submission's ``engine_id``. Every submitted sequence gets exactly one last delta,
whatever happens, unless the engine dies: then ``on_death`` is called once.
``on_step`` tells of each of the engine's steps, before the output of that step is emitted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from inference.wire import Delta, Submission


@dataclass(frozen=True)
class EngineSpec:
    """What to load: a row of the registry, without the database."""

    model: str
    kind: str  # inference.models.Model.Kind
    path: str  # absolute folder of the weights
    dtype: str
    max_context_tokens: int
    max_running_requests: int
    options: dict[str, Any] = field(default_factory=dict)
    tool_parser: str = ""
    reasoning_parser: str = ""


@dataclass(frozen=True)
class EngineStats:
    running: int
    waiting: int
    kv_cache_usage: float  # 0 to 1
    kv_tokens: int = 0  # how many the KV cache holds; 0: not known


@dataclass(frozen=True, slots=True)
class Step:
    """What one step of the engine took, and what it worked on, by ``engine_id``."""

    duration_s: float  # wall time since the step before, or since the engine had work
    decoded: Sequence[str] = ()  # got a further token
    # Whose prompt is done with this step, with all of its tokens that were computed: in
    # earlier steps too, not those found in the KV cache.
    prefilled: Mapping[str, int] = field(default_factory=dict)
    prefill_tokens: int = 0  # prompt tokens computed in this step, of whatever sequences
    preempted: int = 0  # sequences put out of the KV cache, to be computed again


def ignore_step(step: Step) -> None:
    """For who does not count."""


# An idle engine makes a token this often, to show that it can.
PROBE_EVERY_S = 5.0


class Engine(Protocol):
    name: str
    probe_every_s: float  # known once it is started
    preparing: int  # sequences that were submitted and for which no step is owed yet

    async def start(
        self,
        spec: EngineSpec,
        emit: Callable[[Delta], None],
        on_death: Callable[[BaseException], None],
        on_step: Callable[[Step], None] = ignore_step,
    ) -> None:
        """Load and warm up; returns when a first token could be made."""

    async def submit(self, submission: Submission) -> None:
        """Begin a sequence; a refusal of its parameters is emitted as an error delta."""

    def abort(self, engine_ids: list[str]) -> None:
        """Stop sequences now; each gets a last delta with ``finish_reason="abort"``."""

    def stats(self) -> EngineStats: ...

    async def stop(self) -> None:
        """Free everything, child processes included."""
