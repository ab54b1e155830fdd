"""What one request runs: decided and validated, before anything is reserved for it."""

from __future__ import annotations

import time

import msgspec

from api.controls import DEFAULT, Controls
from inference.registry import ModelEntry, Served
from inference.semantic_cache import Question
from inference.wire import Sampling
from tenants.principal import Principal


class Plan(msgspec.Struct, frozen=True):
    request_id: str
    endpoint: str
    principal: Principal
    entry: ModelEntry
    candidates: tuple[Served, ...]
    prompts: list[list[int]]
    sampling: Sampling | None  # None: embeddings, and scores of pairs
    n: int = 1
    screened_text: str = ""
    has_output_limit: bool = False  # whether the client said max_tokens
    cache_ttl_s: int = 0
    question: Question | None = None  # may be given the answer to a similar one
    tier: str = "standard"
    controls: Controls = DEFAULT
    pairs_at: list[int] | None = None  # of prompts that are two texts: where the second begins
    stands_in_for: str = ""  # the model that was asked for, if a fallback answers
    started_at: float = msgspec.field(default_factory=time.monotonic)

    @property
    def prompt_tokens(self) -> int:
        return sum(map(len, self.prompts))

    @property
    def most_output_tokens(self) -> int:
        return 0 if self.sampling is None else self.sampling.max_tokens * self.answers

    @property
    def answers(self) -> int:
        return 0 if self.sampling is None else self.n * len(self.prompts)

    @property
    def is_explained(self) -> bool:
        """Whether the caller hears how it was routed: if asked, and if staff allow it."""
        allowed = self.candidates[0].routing.explained_to
        return self.controls.wants_explanation and self.principal.organization_public_id in allowed
