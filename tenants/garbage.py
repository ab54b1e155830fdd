"""Python's garbage collector in processes that live long and make much that dies at once."""

from __future__ import annotations

import gc

# Python's own first is 700, which is two requests.
THRESHOLDS = (10_000, 20, 50)


def keep_what_is_here() -> None:
    """Call when a process has started: what is there stays, half a million objects that no
    collection need look through again while somebody waits."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
