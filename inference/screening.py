"""Local screening: secrets and personal numbers, by pattern and checksum.

First line only: microseconds a text, no model. Each pattern is linear in the
text (no nested quantifiers). What is found is named by category; the text itself
is never kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_ALLOW, _BLOCK = "allow", "block"


def _luhn(match: str) -> bool:
    digits = [int(character) for character in match if character.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _iban(match: str) -> bool:
    compact = match.replace(" ", "")
    rearranged = compact[4:] + compact[:4]
    return int("".join(str(int(character, 36)) for character in rearranged)) % 97 == 1


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
    ("pii.card_number", re.compile(r"\b\d(?:[ -]?\d){12,18}\b"), _luhn),
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


def find(text: str) -> list[str]:
    """Categories found in ``text``, each once, in the order of the rules."""
    if _SUSPICIOUS.search(text) is None:
        return []
    return [
        category
        for category, pattern, holds in _RULES
        if any(holds is None or holds(match[0]) for match in pattern.finditer(text))
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

    def feed(self, text: str, *, is_last: bool) -> tuple[str, list[str]]:
        """``(text that may be sent now, categories that block)``."""
        if self._policy == _ALLOW:
            return text, []
        self._text += text
        if self._policy != _BLOCK:
            return text, []
        # A finding may begin in what was sent only if it ends in what was not.
        start = max(0, self._sent - HOLD_BACK_CHARACTERS)
        found = find(self._text[start:])
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
