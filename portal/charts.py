"""Geometry of the server-rendered charts. Pure, whole numbers only.

The drawing is 1000 × 200 units and stretches to its box; text stands beside it in
HTML, where it neither stretches nor shrinks. A chart carries its data as well: the
same object is drawn, told by a tooltip and written as the table behind the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

WIDTH, HEIGHT = 1000, 200
# Room for a hover between bars; the widest bar keeps a short period from looking like a wall.
MAX_BAR = 64
# As many colours as tokens.css has; a reader tells no more apart.
MAX_SERIES = 6
# Steps of the scale between 1 and 10; 3 to 5 lines stand above the axis.
STEPS = (1, 2, 5)
MOST_LINES = 5

Write = Callable[[int], str]


@dataclass(frozen=True)
class Series:
    """One row of amounts, in the order of the chart's labels; None where nothing was measured."""

    label: str
    amounts: Sequence[int | None]


@dataclass(frozen=True)
class Rectangle:
    series: int  # 1 for the first, as in the colours' names
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Point:
    series: int
    x: int
    y: int


@dataclass(frozen=True)
class Line:
    series: int
    path: str  # SVG's path data; a gap in the amounts is a gap in the line
    area: str  # the same down to the axis


@dataclass(frozen=True)
class Cell:
    series: int
    label: str
    text: str


@dataclass(frozen=True)
class Slot:
    """One label's share of the width, with all that stands at it."""

    label: str
    x: int
    width: int
    cells: tuple[Cell, ...]
    bars: tuple[Rectangle, ...] = ()
    points: tuple[Point, ...] = ()

    @property
    def words(self) -> str:
        """``21 Nov: Input 1,200; Output 300``: for the tooltip of a page without script."""
        return f"{self.label}: " + "; ".join(f"{cell.label} {cell.text}" for cell in self.cells)


@dataclass(frozen=True)
class Chart:
    kind: str  # "bars" or "lines"
    series: tuple[str, ...]
    slots: tuple[Slot, ...]
    lines: tuple[Line, ...]
    top: int  # the amount at the upper edge
    scale: tuple[str, ...]  # the amounts beside the grid, from the top to nothing
    grid: tuple[int, ...]  # y of the grid's lines, without the axis
    ticks: tuple[str, ...]  # labels under the axis, from the left edge to the right
    is_empty: bool


def draw_bars(
    labels: Sequence[str],
    series: Sequence[Series],
    *,
    write: Write = "{:,}".format,
    write_scale: Write | None = None,
) -> Chart:
    """Columns, one a label; several series stack, the first at the bottom.

    ``write`` puts an amount into words; ``write_scale`` does for the few beside the grid.
    """
    _check(labels, series)
    totals = [sum(one.amounts[at] or 0 for one in series) for at in range(len(labels))]
    top, step = scale_of(max(totals, default=0))
    slots = [_stack(slot, series, at, top) for at, slot in enumerate(_slots(labels, series, write))]
    return _chart("bars", series, slots, (), top, step, write_scale or write)


def draw_lines(
    labels: Sequence[str],
    series: Sequence[Series],
    *,
    write: Write = "{:,}".format,
    write_scale: Write | None = None,
) -> Chart:
    """A line for each series, on one scale from nothing."""
    _check(labels, series)
    top, step = scale_of(max((amount or 0 for one in series for amount in one.amounts), default=0))
    slots = [_mark(slot, series, at, top) for at, slot in enumerate(_slots(labels, series, write))]
    lines = tuple(_line(slots, number) for number in range(1, len(series) + 1))
    return _chart("lines", series, slots, lines, top, step, write_scale or write)


def draw_spark(amounts: Sequence[int]) -> str:
    """Path data of a small line without a scale, in the same 1000 × 200 units."""
    top = max(amounts, default=0)
    if len(amounts) < 2 or not top:
        return ""
    last = len(amounts) - 1
    points = [(at * WIDTH // last, _y(amount, top)) for at, amount in enumerate(amounts)]
    return "M" + "L".join(f"{x} {y}" for x, y in points)


def scale_of(amount: int) -> tuple[int, int]:
    """The amount at the upper edge and the step between two lines: multiples of 1, 2, 5 × 10ⁿ.

    >>> scale_of(1234)
    (1500, 500)
    """
    size = 1
    while True:
        for factor in STEPS:
            step = factor * size
            if amount <= MOST_LINES * step:
                return max(1, -(-amount // step)) * step, step
        size *= 10


def _check(labels: Sequence[str], series: Sequence[Series]) -> None:
    if len(series) > MAX_SERIES:
        raise ValueError(f"a chart has at most {MAX_SERIES} series; put the rest together")
    if any(len(one.amounts) != len(labels) for one in series):
        raise ValueError("every series needs an amount, or None, for each label")


def _slots(labels: Sequence[str], series: Sequence[Series], write: Write) -> list[Slot]:
    edges = [at * WIDTH // max(1, len(labels)) for at in range(len(labels) + 1)]
    return [
        Slot(
            label=label,
            x=left,
            width=right - left,
            cells=tuple(_cell(number, one, at, write) for number, one in enumerate(series, 1)),
        )
        for at, (label, (left, right)) in enumerate(zip(labels, pairwise(edges), strict=True))
    ]


def _cell(number: int, series: Series, at: int, write: Write) -> Cell:
    amount = series.amounts[at]
    return Cell(number, series.label, "–" if amount is None else write(amount))


def _stack(slot: Slot, series: Sequence[Series], at: int, top: int) -> Slot:
    width = max(1, min(MAX_BAR, slot.width * 7 // 10))
    x = slot.x + (slot.width - width) // 2
    bars, below = [], 0
    for number, one in enumerate(series, 1):
        amount = one.amounts[at] or 0
        if amount:
            upper, lower = _y(below + amount, top), _y(below, top)
            # At least one unit for anything at all, so that a small day is not invisible.
            height = max(1, lower - upper)
            bars.append(Rectangle(number, x, max(0, lower - height), width, height))
        below += amount
    return Slot(slot.label, slot.x, slot.width, slot.cells, bars=tuple(bars))


def _mark(slot: Slot, series: Sequence[Series], at: int, top: int) -> Slot:
    middle = slot.x + slot.width // 2
    points = tuple(
        Point(number, middle, _y(amount, top))
        for number, one in enumerate(series, 1)
        if (amount := one.amounts[at]) is not None
    )
    return Slot(slot.label, slot.x, slot.width, slot.cells, points=points)


def _line(slots: Sequence[Slot], number: int) -> Line:
    """Unmeasured slots end a stretch; one alone becomes a dot (``h0`` with a round cap)."""
    stretches: list[list[Point]] = [[]]
    for slot in slots:
        found = [point for point in slot.points if point.series == number]
        if found:
            stretches[-1] += found
        elif stretches[-1]:
            stretches.append([])
    path = area = ""
    for stretch in filter(None, stretches):
        drawn = "M" + "L".join(f"{each.x} {each.y}" for each in stretch)
        path += drawn if len(stretch) > 1 else f"{drawn}h0"
        area += f"{drawn}L{stretch[-1].x} {HEIGHT}L{stretch[0].x} {HEIGHT}Z"
    return Line(number, path, area)


def _y(amount: int, top: int) -> int:
    return HEIGHT - amount * HEIGHT // top


def _chart(
    kind: str,
    series: Sequence[Series],
    slots: Sequence[Slot],
    lines: tuple[Line, ...],
    top: int,
    step: int,
    write: Write,
) -> Chart:
    amounts = range(top, -1, -step)
    return Chart(
        kind=kind,
        series=tuple(one.label for one in series),
        slots=tuple(slots),
        lines=lines,
        top=top,
        scale=tuple(write(amount) for amount in amounts),
        grid=tuple(_y(amount, top) for amount in amounts if amount),
        ticks=_ticks([slot.label for slot in slots]),
        is_empty=not any(amount for one in series for amount in one.amounts),
    )


def _ticks(labels: Sequence[str]) -> tuple[str, ...]:
    if len(labels) <= 3:
        return tuple(labels)
    return (labels[0], labels[len(labels) // 2], labels[-1])
