"""Histograms for the event loop: counted in plain lists, shaped for Prometheus when asked.

prometheus_client locks twice an observation, 3 µs; a request has eight of them. Only the loop's
thread observes here, so nothing is locked; a scrape, in another thread, may see an
observation in its count and not yet in its sum.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import REGISTRY
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector


class Child:
    """One combination of labels."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]):
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def cumulated(self) -> Iterator[tuple[str, float]]:
        total = 0
        for bound, count in zip([*map(str, self._bounds), "+Inf"], list(self.counts), strict=True):
            total += count
            yield bound, total


class LoopHistogram(Collector):
    """``labels(...)`` gives a ``Child`` to keep; without labels it observes itself."""

    def __init__(
        self, name: str, documentation: str, labels: Iterable[str] = (), *, buckets: Sequence[float]
    ):
        self._name, self._documentation = name, documentation
        self._labels = tuple(labels)
        self._bounds = tuple(map(float, buckets))
        self._children: dict[tuple[str, ...], Child] = {}
        if not self._labels:
            self.observe = self.labels().observe
        REGISTRY.register(self)

    def labels(self, *values: str) -> Child:
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = Child(self._bounds)
        return child

    def describe(self) -> list[HistogramMetricFamily]:
        return [HistogramMetricFamily(self._name, self._documentation, labels=self._labels)]

    def collect(self) -> list[HistogramMetricFamily]:
        (family,) = self.describe()
        for values, child in list(self._children.items()):
            family.add_metric(values, list(child.cumulated()), sum_value=child.sum)
        return [family]
