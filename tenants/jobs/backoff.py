"""How long a failed attempt waits for the next one. Pure."""

from __future__ import annotations

import random
from datetime import timedelta

FIRST_S = 2.0
LONGEST_S = 600.0


def wait_after(attempt: int, chance: float | None = None) -> timedelta:
    """Doubles with each attempt up to ten minutes; a random half of it spreads those that
    failed together. ``chance`` from 0 to 1 is drawn if it is not given."""
    drawn = random.random() if chance is None else chance  # noqa: S311 - spreads, hides nothing
    whole = min(LONGEST_S, FIRST_S * 2.0 ** min(attempt - 1, 20))
    return timedelta(seconds=whole * (0.5 + drawn / 2))
