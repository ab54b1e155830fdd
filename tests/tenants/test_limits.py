"""The arithmetic around the scripts: months, durations, money in words, who is limited by what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tenants.admission.kinds import KINDS, Costs
from tenants.admission.limits import dollars, duration, months_at
from tenants.admission.subjects import keys_of, subjects_of
from tenants.principal import Limits
from tests.tenants.factory import MODEL, make_principal

moments = st.datetimes(datetime(2020, 1, 1), datetime(2199, 12, 31)).map(
    lambda moment: moment.replace(tzinfo=UTC)
)


@given(moments)
@example(datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC))
@example(datetime(2023, 2, 28, 23, 59, 59, 999_000, tzinfo=UTC))
@example(datetime(2025, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC))
@example(datetime(2100, 2, 28, 12, tzinfo=UTC))  # no leap year
def test_a_month_ends_where_the_next_begins(moment: datetime) -> None:
    months = months_at(moment.timestamp())

    begin = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    next_month = (begin + timedelta(days=32)).replace(day=1)
    later = (next_month + timedelta(days=32)).replace(day=1)
    assert months.number == moment.year * 12 + moment.month - 1
    assert months[1:] == tuple(1000 * int(m.timestamp()) for m in (begin, next_month, later))


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, b"0ms"),
        (250, b"250ms"),
        (1_000, b"1s"),
        (1_500, b"1.5s"),
        (59_999, b"59.999s"),
        (60_000, b"1m0s"),
        (63_000, b"1m3s"),
        (3_600_500, b"1h0m0.5s"),
        (86_400_000, b"24h0m0s"),
    ],
)
def test_durations_are_written_as_openai_writes_them(milliseconds: int, text: bytes) -> None:
    assert duration(milliseconds) == text


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (0, "$0.00"),
        (1, "$0.000001"),
        (450_000, "$0.45"),
        (1_000_000, "$1.00"),
        (1_234_567_890, "$1,234.56789"),
        (2**53, "$9,007,199,254.740992"),
    ],
)
def test_money_is_told_exactly(micros: int, text: str) -> None:
    assert dollars(micros) == text


def test_rates_are_charged_the_expected_and_sums_the_most() -> None:
    costs = Costs(expected_tokens=10, most_tokens=99, most_micros=7)

    assert [costs.of(place) for place in range(len(KINDS))] == [1, 1, 1, 10, 10, 1, 99, 7, 7]


def test_a_request_counts_for_up_to_five_and_the_limited_come_first() -> None:
    some = Limits(requests_per_minute=1)
    caller = make_principal(key=some, organization_models={MODEL: some, "other": some})
    subjects = subjects_of(caller, MODEL)

    assert [subject.key for subject in subjects] == [
        "limit:k7", f"limit:o5:{MODEL}", "limit:o5", "limit:p3",
    ]  # fmt: skip
    assert {subject.key for subject in subjects} <= set(keys_of(5, 3, 7, MODEL))
    assert [subject.amounts.is_empty for subject in subjects] == [False, False, True, True]


def test_a_limit_that_is_null_is_none_and_one_that_is_nothing_is_one() -> None:
    (subject, *_) = subjects_of(make_principal(project=Limits(tokens_per_minute=0)), MODEL)

    assert subject.kind == "project"
    assert subject.amounts.by_place == (-1, -1, -1, 0, -1, -1, -1, -1, -1)
    assert not subject.amounts.needs_month and not subject.amounts.needs_life
