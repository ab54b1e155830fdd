"""The geometry of charts, and what a figure is compared with."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.changes import Change
from portal.charts import (
    HEIGHT,
    MAX_SERIES,
    WIDTH,
    Series,
    draw_bars,
    draw_lines,
    draw_spark,
    scale_of,
)

AMOUNTS = st.lists(
    st.tuples(st.integers(0, 10**12), st.none() | st.integers(0, 10**12)), max_size=40
)


def series_of(amounts: list[tuple[int, int | None]]) -> tuple[list[str], list[Series]]:
    labels = [f"day {at}" for at in range(len(amounts))]
    return labels, [
        Series("Low", [low for low, _ in amounts]),
        Series("Up", [up for _, up in amounts]),
    ]


@given(AMOUNTS)
def test_bars_stay_inside_the_drawing_and_stack(amounts: list[tuple[int, int | None]]) -> None:
    chart = draw_bars(*series_of(amounts))
    for slot, (low, up) in zip(chart.slots, amounts, strict=True):
        assert [bar.series for bar in slot.bars] == [1] * (low > 0) + [2] * bool(up)
        for bar in slot.bars:
            assert slot.x <= bar.x < bar.x + bar.width <= slot.x + slot.width <= WIDTH
            assert 0 <= bar.y < bar.y + bar.height <= HEIGHT
        if len(slot.bars) == 2 and all(bar.height > 1 for bar in slot.bars):
            lower, upper = slot.bars
            assert upper.y + upper.height == lower.y
    assert chart.is_empty == (not any(low or up for low, up in amounts))


@given(AMOUNTS)
def test_lines_pass_through_what_was_measured_only(amounts: list[tuple[int, int | None]]) -> None:
    chart = draw_lines(*series_of(amounts))
    for line, values in zip(
        chart.lines, zip(*amounts, strict=True) if amounts else [], strict=False
    ):
        numbers = [int(each) for each in re.findall(r"(?<=[ML ])\d+(?= )", line.path)]
        assert len(numbers) == sum(value is not None for value in values)
        stretches = re.findall(r"M", line.path)
        gaps = "".join("." if value is None else "#" for value in values)
        assert len(stretches) == len(re.findall(r"#+", gaps))
    for slot in chart.slots:
        assert all(0 <= point.y <= HEIGHT for point in slot.points)


def test_a_gap_breaks_the_line_and_a_lone_point_is_a_dot() -> None:
    chart = draw_lines(["a", "b", "c", "d"], [Series("One", [5, 10, None, 10])])
    assert chart.lines[0].path == "M125 100L375 0M875 0h0"
    assert chart.slots[2].cells[0].text == "–"


@given(st.integers(0, 10**15))
def test_the_scale_has_a_few_round_steps(amount: int) -> None:
    top, step = scale_of(amount)
    assert amount <= top
    assert top % step == 0
    assert 1 <= top // step <= 5
    assert str(step).rstrip("0") in {"1", "2", "5"}


def test_the_data_stands_behind_the_picture() -> None:
    chart = draw_bars(["21 Nov"], [Series("Input", [1200]), Series("Output", [300])])
    assert chart.slots[0].words == "21 Nov: Input 1,200; Output 300"
    assert chart.scale == ("1,500", "1,000", "500", "0")


def test_more_series_than_colours_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 6"):
        draw_bars(["a"], [Series(str(at), [1]) for at in range(MAX_SERIES + 1)])
    with pytest.raises(ValueError, match="each label"):
        draw_bars(["a", "b"], [Series("Short", [1])])


def test_a_spark_needs_two_points() -> None:
    assert draw_spark([1]) == draw_spark([0, 0]) == ""
    assert draw_spark([0, 5, 10]) == "M0 200L500 100L1000 0"


@pytest.mark.parametrize(
    ("now", "before", "more_is", "text", "tone"),
    [
        (110, 100, "good", "+10 %", "good"),
        (103, 100, "bad", "+3.0 %", "bad"),
        (50, 100, "bad", "−50 %", "good"),
        (99, 100, "good", "−1.0 %", "bad"),
        (5, 0, "good", "New", "good"),
        (0, 0, "good", "No change", ""),
        (5000, 100, "", "× 50", ""),
    ],
)
def test_changes(now: int, before: int, more_is: str, text: str, tone: str) -> None:
    change = Change(now, before, more_is)
    assert (change.text, change.tone) == (text, tone)
