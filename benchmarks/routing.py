"""What one routing decision takes, by the number of replicas: the gateway's own, all of it.

No platform and no network: a fleet is made of heartbeats in memory, and each decision hashes
the prompt's blocks, weighs replicas, remembers the prefix and keeps its record for people.
"""

from __future__ import annotations

import os

import django

from benchmarks.sizes import Sizes


def measure(sizes: Sizes) -> dict[str, object]:
    """Microseconds of CPU a decision, the median of rounds, for each fleet and prompt."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    # Models can be imported from here on.
    from benchmarks.routing_decisions import decide

    return decide(sizes)
