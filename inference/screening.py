"""Local screening: secrets and personal numbers, by pattern and checksum.

First line only: microseconds a text, no model. Each pattern is linear in the
text (no nested quantifiers). What is found is named by category; the text itself
is never kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import accumulate

_ALLOW, _BLOCK = "allow", "block"


def _card(match: str) -> bool:
    """Whether the first groups of these digits are a card; a date or a code may follow it."""
    return any(
        13 <= len(digits) <= 19 and 2 <= int(digits[0]) <= 6 and _luhn(digits)
        for digits in _first_groups(match)
    )


def _first_groups(match: str) -> list[str]:
    """The first group, the first two together, and so on."""
    return list(accumulate(re.split("[ -]", match)))


def _luhn(text: str) -> bool:
    digits = [int(character) for character in text]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _iban(match: str) -> bool:
    """The same: capitals that follow an account number are no part of it."""
    return any(
        len(account) >= 15
        and int("".join(str(int(each, 36)) for each in account[4:] + account[:4])) % 97 == 1
        for account in _first_groups(match)
    )


# category, pattern, what a match must also satisfy
_RULES: tuple[tuple[str, re.Pattern[str], Callable[[str], bool] | None], ...] = (
    (
        "secret.private_key",
        re.compile(r"-----BEGIN (?:[A-Z]{2,10} )?PRIVATE KEY-----"),
        None,
    ),
    ("secret.aws_access_key", re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), None),
    ("secret.github_token", re.compile(r"\bgh[pousr]_[0-9A-Za-z]{36}\b"), None),
    ("secret.slack_token", re.compile(r"\bxox[abprs]-[0-9A-Za-z-]{10,72}"), None),
    ("secret.api_key", re.compile(r"\bsk-proj-[0-9A-Za-z]{52}\b"), None),
    # A look-ahead, so that matches may overlap: any number may stand before a card's.
    ("pii.card_number", re.compile(r"\b(?=(\d(?:[ -]?\d){12,18})\b)"), _card),
    (
        "pii.us_ssn",
        re.compile(r"\b(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}\b"),
        None,
    ),
    (
        "pii.iban",
        re.compile(r"\b[A-Z]{2}\d{2}(?: ?[0-9A-Z]{4}){2,7}(?: ?[0-9A-Z]{1,3})?\b"),
        _iban,
    ),
)
# One pass that any finding must pass too: most texts are clean, and end here.
_SUSPICIOUS = re.compile(
    r"PRIVATE KEY|AKIA|ASIA|gh[pousr]_|xox[abprs]-|sk-proj-"
    r"|\d(?:[ -]?\d){8}|[A-Z]{2}\d{2} ?[0-9A-Z]{4}"
)
# The longest text that can turn out to be a finding only at its last character.
HOLD_BACK_CHARACTERS = 80


def find(text: str, start: int = 0, *, may_grow: bool = False) -> list[str]:
    """Categories found from ``start`` on, each once, in the order of the rules.

    While the text ``may_grow``, what touches its end is no finding yet: the next
    character may show that it is part of a longer word or number.
    """
    if _SUSPICIOUS.search(text, start) is None:
        return []
    last = len(text) - 1 if may_grow else len(text)
    return [
        category
        for category, pattern, holds in _RULES
        if any(
            match.end(pattern.groups) <= last and (holds is None or holds(match[pattern.groups]))
            for match in pattern.finditer(text, start)
        )
    ]


class OutputScreen:
    """Screens an answer as it grows, under one organization's policy.

    Under ``block`` the newest characters are held back until more text shows
    that they are no part of a finding, so that nothing found was ever sent.
    """

    def __init__(self, policy: str):
        self._policy = policy
        self._text = ""
        self._sent = 0

    @property
    def is_looking(self) -> bool:
        return self._policy != _ALLOW

    @property
    def holds_back(self) -> bool:
        """Whether text is not sent as it comes, and may end the answer."""
        return self._policy == _BLOCK

    def feed(self, text: str, *, is_last: bool) -> tuple[str, list[str]]:
        """``(text that may be sent now, categories that block)``."""
        if self._policy == _ALLOW:
            return text, []
        self._text += text
        if self._policy != _BLOCK:
            return text, []
        # A finding may begin in what was sent only if it ends in what was not.
        start = max(0, self._sent - HOLD_BACK_CHARACTERS)
        found = find(self._text, start, may_grow=not is_last)
        if found:
            return "", found
        end = (
            len(self._text) if is_last else max(self._sent, len(self._text) - HOLD_BACK_CHARACTERS)
        )
        released = self._text[self._sent : end]
        self._sent = end
        return released, []

    def findings(self) -> list[str]:
        """Categories in the whole answer."""
        return find(self._text) if self.is_looking else []
