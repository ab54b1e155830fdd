"""What needs no database: addresses, periods, money."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from django import forms
from django.test.html import parse_html
from hypothesis import given
from hypothesis import strategies as st

from portal import periods, ratelimits
from portal.fields import QuickSelect
from portal.snippets import chat_samples
from portal.templatetags.portal import about_micros, exact_micros, micros, thousands
from tenants import addresses

PROXIES = addresses.parse_proxies(("10.0.0.0/8", "192.0.2.7", "::1"))


@pytest.mark.parametrize(
    ("remote", "forwarded_for", "client"),
    [
        ("203.0.113.9", "", "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # a stranger's claim
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.1, 192.0.2.7", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, nonsense", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("::ffff:10.0.0.1", "2001:db8::5", "2001:db8::5"),
        ("::1", "10.1.1.1", "10.1.1.1"),
        ("", "198.51.100.1", None),
        ("unix:", "198.51.100.1", None),
    ],
)
def test_client_address(remote: str, forwarded_for: str, client: str | None) -> None:
    assert addresses.client_address(remote, forwarded_for, PROXIES) == client


@given(st.text())
def test_a_stranger_cannot_forge_an_address(forwarded_for: str) -> None:
    assert addresses.client_address("203.0.113.9", forwarded_for, PROXIES) == "203.0.113.9"


def test_one_household_shares_a_limit() -> None:
    group = addresses.rate_limit_group
    assert group("2001:db8::1") == group("2001:db8::ffff:1")
    assert group("2001:db8:0:1::1") != group("2001:db8::1")
    assert group("198.51.100.1") != group("198.51.100.2")
    assert group(None) == group("garbage") == "unknown"


def test_every_limit_has_a_reason() -> None:
    for limits in ratelimits.LIMITS.values():
        assert all(limit.reason.endswith(".") for limit in limits)


def test_periods() -> None:
    now = datetime(2026, 3, 2, 10, 30, tzinfo=UTC)
    assert periods.read_period("7d", now).start == now - timedelta(days=7)
    assert periods.read_period("month", now).start == datetime(2026, 3, 1, tzinfo=UTC)
    assert periods.read_period("bogus", now).name == periods.DEFAULT


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "$0.00"),
        (None, "$0.00"),
        (1, "$0.000001"),
        (1_500, "$0.0015"),
        (10_000, "$0.01"),
        (1_234_567_890_000, "$1,234,567.89"),
        (-2_500_000, "−$2.50"),
        (9_007_199_254_740_993, "$9,007,199,254.740993"),  # beyond what a float holds
    ],
)
def test_micros(amount: int | None, text: str) -> None:
    assert micros(amount) == text


def test_a_column_of_amounts_lines_up() -> None:
    assert [about_micros(amount) for amount in (None, 1_500, 999_999, 14_750_401, -2_005_000)] == [
        "$0.00",
        "$0.0015",
        "$0.999999",
        "$14.75",
        "−$2.00",
    ]
    assert [exact_micros(amount) for amount in (0, 1_500, 2_000_000)] == [
        "$0.000000",
        "$0.001500",
        "$2.000000",
    ]


def test_thousands() -> None:
    assert (thousands(1234567), thousands(0), thousands(None)) == (
        "1,234,567",
        "0",
        "–",
    )


def test_a_quick_select_is_djangos_select() -> None:
    choices = [("", "None"), ("Group <1>", [("a", "A & B"), ("b", "<b>")]), ("c", "C")]

    class One(forms.Form):
        quick = forms.ChoiceField(choices=choices, widget=QuickSelect, required=False)
        plain = forms.ChoiceField(choices=choices, required=False)

    for value in ("", "b", "c", "absent"):
        form = One({"quick": value, "plain": value})
        quick = str(form["quick"]).replace("quick", "plain")
        assert parse_html(quick) == parse_html(str(form["plain"]))


@pytest.mark.parametrize("secret", ["", "sk-proj-abc"])
def test_examples_are_well_formed_and_name_the_key_where_there_is_one(secret: str) -> None:
    samples = {name: text for name, _, text in chat_samples("http://x/", "a-model", secret)}
    compile(samples["python"], "sample.py", "exec")
    command = shlex.split(samples["curl"].replace("\\\n", " "))
    assert command[:2] == ["curl", "http://x/v1/chat/completions"]
    assert json.loads(command[-1])["model"] == "a-model"
    for text in samples.values():
        assert (secret in text) if secret else "OPENAI_API_KEY" in text
        assert "$url" not in text and "http://x/v1" in text


@pytest.mark.skipif(not shutil.which("node"), reason="no node")
def test_the_example_in_javascript_parses() -> None:
    text = {name: text for name, _, text in chat_samples("http://x", "m")}["javascript"]
    command = ["node", "--input-type=module", "--check"]
    assert subprocess.run(command, input=text, text=True, capture_output=True).returncode == 0
