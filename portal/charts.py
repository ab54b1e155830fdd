"""Geometry of the server-rendered bar chart. Pure, integers only.

The drawing is 1000 × 200 units and stretches to its box; text stands beside it in
HTML, where it neither stretches nor shrinks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 1000, 200
# Room for a hover between bars; the widest bar keeps a short period from looking like a wall.
MAX_BAR = 64


@dataclass(frozen=True)
class Column:
    """One day: its label and the two amounts that stack (lower first)."""

    label: str
    lower: int
    upper: int

    @property
    def total(self) -> int:
        return self.lower + self.upper


@dataclass(frozen=True)
class Bar:
    column: Column
    x: int
    width: int
    lower_y: int
    lower_height: int
    upper_y: int
    upper_height: int
    slot_x: int
    slot_width: int


@dataclass(frozen=True)
class Chart:
    bars: tuple[Bar, ...]
    top: int  # the amount at the upper edge
    ticks: tuple[str, ...]  # labels under the axis, from the left edge to the right

    @property
    def is_empty(self) -> bool:
        return not any(bar.column.total for bar in self.bars)


def draw_bars(columns: Sequence[Column]) -> Chart:
    top = nice_ceiling(max((column.total for column in columns), default=0))
    slot = WIDTH // max(1, len(columns))
    width = max(1, min(MAX_BAR, slot * 7 // 10))
    bars = []
    for index, column in enumerate(columns):
        total = _scaled(column.total, top)
        lower = _scaled(column.lower, top)
        slot_x = index * WIDTH // len(columns)
        bars.append(
            Bar(
                column=column,
                x=slot_x + (slot - width) // 2,
                width=width,
                lower_y=HEIGHT - lower,
                lower_height=lower,
                upper_y=HEIGHT - total,
                upper_height=total - lower,
                slot_x=slot_x,
                slot_width=slot,
            )
        )
    return Chart(tuple(bars), top, _ticks(columns))


def nice_ceiling(amount: int) -> int:
    """The smallest of 1, 2, 3, 4, 5, 6, 8 × 10ⁿ that is not below ``amount``; 1 for nothing."""
    step = 1
    while True:
        for factor in (1, 2, 3, 4, 5, 6, 8):
            if amount <= factor * step:
                return factor * step
        step *= 10


def _scaled(amount: int, top: int) -> int:
    """At least one unit for anything at all, so that a small day is not invisible."""
    return max(1, amount * HEIGHT // top) if amount else 0


def _ticks(columns: Sequence[Column]) -> tuple[str, ...]:
    if len(columns) <= 3:
        return tuple(column.label for column in columns)
    return (columns[0].label, columns[len(columns) // 2].label, columns[-1].label)
