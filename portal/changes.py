"""A figure beside what it was before. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext as _

# Tenfold and more is told as a factor: "+ 12,400 %" says nothing.
FACTOR_FROM = 10


@dataclass(frozen=True)
class Change:
    """From ``before`` to ``now``, in whole units; ``more_is`` is "good", "bad" or "" for neither."""

    now: int
    before: int
    more_is: str = ""
    than: str = ""  # what it is compared with: "the 30 days before"

    @property
    def direction(self) -> str:
        if self.now == self.before:
            return "same"
        return "up" if self.now > self.before else "down"

    @property
    def tone(self) -> str:
        """Whether to be glad of it."""
        if not self.more_is or self.direction == "same":
            return ""
        is_good = (self.direction == "up") == (self.more_is == "good")
        return "good" if is_good else "bad"

    @property
    def text(self) -> str:
        if self.direction == "same":
            return _("No change")
        if not self.before:
            return _("New")
        if self.now >= FACTOR_FROM * self.before:
            return f"× {self.now // self.before}"
        share = abs(self.now - self.before) * 1000 // self.before
        sign = "+" if self.direction == "up" else "−"
        return f"{sign}{share // 10}.{share % 10} %" if share < 100 else f"{sign}{share // 10} %"
