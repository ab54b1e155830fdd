"""Histograms without locks say what prometheus_client's own would."""

from __future__ import annotations

import secrets

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import REGISTRY

from inference.loop_metrics import LoopHistogram

BUCKETS = (0.001, 0.5, 1.0, 10.0)


def samples(registry: CollectorRegistry, name: str) -> dict[str, float]:
    """Lines of one histogram, without the moment at which it was made."""
    lines = generate_latest(registry).decode().splitlines()
    found = [line.replace(name, "x").rsplit(" ", 1) for line in lines if line.startswith(name)]
    return {key: float(value) for key, value in found if "_created" not in key}


@given(st.lists(st.floats(0, 20) | st.sampled_from(BUCKETS), max_size=20))
def test_it_counts_as_the_library_does(values: list[float]) -> None:
    name, registry = f"test_{secrets.token_hex(6)}", CollectorRegistry()
    theirs = Histogram(name, "", ["kind"], buckets=BUCKETS, registry=registry).labels("a")
    histogram = LoopHistogram(name, "", ["kind"], buckets=BUCKETS)
    ours = histogram.labels("a")
    for value in values:
        theirs.observe(value)
        ours.observe(value)

    assert histogram.labels("a") is ours
    assert samples(REGISTRY, name) == samples(registry, name)
    REGISTRY.unregister(histogram)
