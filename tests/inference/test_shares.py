"""Who is refused when replicas are full: the flood, and not who came beside it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from inference.dispatch import shares
from inference.dispatch.shares import Shares

GUEST, FLOOD, OTHER = 1, 2, 3


@pytest.fixture(autouse=True)
def _counted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "COUNTED_S", 0.0)


def running(organization: int, count: int, deployment: int = 7, weight: int = 1) -> list[Any]:
    job = SimpleNamespace(organization=organization, weight=weight)
    served = SimpleNamespace(deployment=deployment)
    return [SimpleNamespace(job=job, served=served)] * count


@pytest.mark.parametrize(
    ("sequences", "organization", "weight", "below"),
    [
        (running(FLOOD, 100), GUEST, 1, True),
        (running(FLOOD, 100), FLOOD, 1, False),
        (running(FLOOD, 100) + running(GUEST, 49), GUEST, 1, True),
        (running(FLOOD, 100) + running(GUEST, 100), GUEST, 1, False),
        (running(FLOOD, 100) + running(GUEST, 100), FLOOD, 1, False),
        # Of 300 a third each; and three fifths for who pays for three.
        (running(FLOOD, 190) + running(OTHER, 11) + running(GUEST, 99), GUEST, 1, True),
        (running(FLOOD, 100) + running(OTHER, 100) + running(GUEST, 101), GUEST, 1, False),
        (running(FLOOD, 100) + running(GUEST, 250, weight=3), GUEST, 3, True),
        (running(FLOOD, 100) + running(GUEST, 310, weight=3), GUEST, 3, False),
        # What runs elsewhere fills no place here.
        (running(FLOOD, 100) + running(GUEST, 500, deployment=8), GUEST, 1, True),
        ([], GUEST, 1, True),
    ],
)
def test_who_is_below_their_share(
    sequences: list[Any], organization: int, weight: int, below: bool
) -> None:
    assert Shares(sequences).is_below([7], organization, weight) is below


def test_what_is_under_way_is_counted_ten_times_a_second_and_not_for_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shares, "COUNTED_S", 60.0)
    sequences = running(FLOOD, 1)
    found = Shares(sequences)
    assert found.is_below([7], GUEST, 1)
    sequences += running(GUEST, 100)
    assert found.is_below([7], GUEST, 1)
