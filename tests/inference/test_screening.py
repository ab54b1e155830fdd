"""Local screening: what is found, what is not, and what a stream lets out before it is known."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inference.screening import HOLD_BACK_CHARACTERS, OutputScreen, find

KEY = "sk-proj-" + "a1B2" * 13
CARD = "4111 1111 1111 1111"
FINDINGS = {
    "secret.private_key": "-----BEGIN RSA PRIVATE KEY-----",
    "secret.aws_access_key": "AKIAIOSFODNN7EXAMPLE",
    "secret.github_token": "ghp_" + "a1B2c3" * 6,
    "secret.slack_token": "xoxb-123456789012-abcdefABCDEF",
    "secret.api_key": KEY,
    "pii.card_number": CARD,
    "pii.us_ssn": "123-45-6789",
    "pii.iban": "DE89 3704 0044 0532 0130 00",
}
WHOLE_TEXT_AROUND = st.text("ab .,-\n1A", max_size=120)


@pytest.mark.parametrize(("category", "text"), FINDINGS.items())
def test_each_category_is_found_in_the_middle_of_a_text(category: str, text: str) -> None:
    assert find(text) == [category]
    assert find(f"Please use {text}, thank you.") == [category]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "AKIAIOSFODNN7EXAMPL",  # a letter short
        "AKIAIOSFODNN7EXAMPLEX",
        "4111 1111 1111 1112",  # the checksum is wrong
        "1234567890123",  # a time in milliseconds
        "41111111111111114",  # longer than a card, and no card
        "000-12-3456",
        "666-12-3456",
        "123-00-4567",
        "123-45-0000",
        "DE88 3704 0044 0532 0130 00",  # the checksum is wrong
        "-----BEGIN PUBLIC KEY-----",
        "sk-proj-short",
        "version 4.1111.1111.1111",
    ],
)
def test_what_only_looks_like_a_finding_is_none(text: str) -> None:
    assert find(text) == []


@pytest.mark.parametrize(
    "text",
    [
        f"{CARD} 12/27 123",  # expiry and code follow
        f"{CARD} 12 27",
        f"order 42 {CARD}",  # a number before it
        f"2024 {CARD}",
        f"2024-05-06 {CARD} 2025-05-06",
        f"7 7 7 7 7 7 {CARD}",
        "4111-1111-1111-1111",
        "4111111111111111",
        "378282246310005",  # 15 digits
        "4222222222222",  # 13
        "6304000000000000000",  # 19
    ],
)
def test_a_card_is_found_whatever_numbers_stand_around_it(text: str) -> None:
    assert find(text) == ["pii.card_number"]


@pytest.mark.parametrize(
    "text",
    ["DE89370400440532013000", "GB82 WEST 1234 5698 7654 32 PLEASE", "BE68539007547034 PAID NOW"],
)
def test_an_account_number_is_found_before_other_capitals(text: str) -> None:
    assert find(text) == ["pii.iban"]


def test_a_long_text_takes_no_longer_than_its_length_says() -> None:
    """Texts made to send a pattern back and forth; a quadratic one would take minutes."""
    hostile = ("1-" * 100_000, "1" * 200_000, "A1" * 100_000, "-----BEGIN " * 20_000,
               "DE89 " * 40_000, "xoxb-" * 40_000, "1 " * 100_000 + "x")  # fmt: skip
    started = time.process_time()
    for text in hostile:
        find(text)

    assert time.process_time() - started < 10


def feed_in_parts(policy: str, text: str, cuts: list[int]) -> tuple[str, list[str]]:
    """What was sent of a stream, and the categories that ended it."""
    screen, sent, at = OutputScreen(policy), "", 0
    for cut in [*sorted(set(cuts)), len(text)]:
        released, found = screen.feed(text[at:cut], is_last=cut == len(text))
        at = max(at, cut)
        if found:
            return sent, found
        sent += released
    return sent, []


@given(
    WHOLE_TEXT_AROUND,
    st.sampled_from([*FINDINGS.values(), "4111 1111 1111 1112", "41111111111111114"]),
    WHOLE_TEXT_AROUND,
    st.lists(st.integers(1, 300), max_size=60),
)
@example("", "41111111111111114", "", list(range(1, 18)))
@example("", CARD + " 12/27", "", list(range(1, 30)))
def test_however_a_stream_is_cut_it_is_judged_as_the_whole_text(
    before: str, middle: str, after: str, cuts: list[int]
) -> None:
    text = before + middle + after
    sent, found = feed_in_parts("block", text, [cut for cut in cuts if cut < len(text)])

    assert bool(found) == bool(find(text))
    if found:
        assert set(found) <= set(find(text))
        assert text.startswith(sent) and find(sent) == []
    else:
        assert sent == text


@pytest.mark.parametrize("finding", FINDINGS.values())
def test_of_a_finding_not_one_character_is_sent(finding: str) -> None:
    text = "x" * 200 + " " + finding + " " + "y" * 200
    for step in (1, 3, 50, 500):
        sent, found = feed_in_parts("block", text, list(range(step, len(text), step)))
        assert found
        assert sent == "x" * len(sent)


def test_what_is_held_back_is_bounded_and_comes_with_the_end() -> None:
    screen = OutputScreen("block")
    sent = ""
    for count in range(1, 500):
        sent += screen.feed("a", is_last=False)[0]
        assert count - len(sent) <= HOLD_BACK_CHARACTERS
    sent += screen.feed("", is_last=True)[0]

    assert sent == "a" * 499


def test_under_flag_nothing_is_held_back_and_everything_is_named() -> None:
    screen = OutputScreen("flag")
    text = f"My card is {CARD}."
    assert [screen.feed(letter, is_last=False) for letter in text] == [(each, []) for each in text]

    assert screen.findings() == ["pii.card_number"]


def test_under_allow_nothing_is_looked_at() -> None:
    screen = OutputScreen("allow")

    assert screen.feed(CARD, is_last=True) == (CARD, [])
    assert screen.findings() == [] and not screen.is_looking
