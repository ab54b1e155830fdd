"""The arithmetic around the script: months, durations, and which limits a request meets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tenants.admission.limits import _duration, checks_for, month_of
from tenants.principal import Limits
from tests.tenants.factory import make_principal

moments = st.datetimes(datetime(2020, 1, 1), datetime(2199, 12, 31)).map(
    lambda moment: moment.replace(tzinfo=UTC)
)


@given(moments)
@example(datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC))
@example(datetime(2023, 2, 28, 23, 59, 59, 999_000, tzinfo=UTC))
@example(datetime(2025, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC))
@example(datetime(2100, 2, 28, 12, tzinfo=UTC))  # no leap year
def test_a_month_ends_where_the_next_begins(moment: datetime) -> None:
    month, left_ms = month_of(moment.timestamp())

    assert month == f"{moment:%Y-%m}"
    end = moment + timedelta(milliseconds=left_ms)
    next_month = (moment.replace(day=1) + timedelta(days=32)).replace(
        day=1, hour=0, minute=0, second=0, microsecond=0
    )
    assert abs(end - next_month) <= timedelta(milliseconds=1)
    assert left_ms >= 1


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
        (3_600_500, b"60m0.5s"),
    ],
)
def test_durations_are_written_as_openai_writes_them(milliseconds: int, text: bytes) -> None:
    assert _duration(milliseconds) == text


def test_rates_are_charged_the_expected_and_quotas_the_largest_bill() -> None:
    limits = Limits(1, 2, 3, 4)
    checks = checks_for(make_principal(limits, limits), expected_tokens=10, most_tokens=99, now=0)

    costs = {(check.subject, check.name): check.cost for check in checks}
    for subject in ("organization", "API key"):
        assert costs[subject, "requests_per_minute"] == 1
        assert costs[subject, "tokens_per_minute"] == 10
        assert costs[subject, "concurrent_requests"] == 1
        assert costs[subject, "monthly_tokens"] == 99
    assert len({check.key for check in checks}) == len(checks) == 8


def test_a_limit_that_is_null_is_no_check_and_one_that_is_nothing_is() -> None:
    principal = make_principal(Limits(tokens_per_minute=0))

    (check,) = checks_for(principal, 1, 1, now=0)
    assert (check.name, check.limit) == ("tokens_per_minute", 0)
