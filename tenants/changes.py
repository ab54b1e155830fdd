"""When tenants changed last, so that nothing read before it is believed.

A cache of a hundred thousand keys must not be searched for an organization's on each
notice: that would stop the event loop for a tenth of a second. It notes the moment
instead, and whoever reads an entry compares.
"""

from __future__ import annotations

import math

# Past it the eldest are no longer told apart; a change of so many organizations within
# the life of a cache entry empties the cache instead.
MOST_ORGANIZATIONS = 100_000


class Changes:
    """Moments of one monotonic clock."""

    def __init__(self) -> None:
        self.latest = -math.inf  # of any organization
        self._of_all = -math.inf
        self._of_one: dict[int, float] = {}

    def note(self, organization: int, moment: float) -> None:
        self.latest = moment
        if len(self._of_one) >= MOST_ORGANIZATIONS and organization not in self._of_one:
            self.note_all(moment)
        self._of_one[organization] = moment

    def note_all(self, moment: float) -> None:
        self.latest = self._of_all = moment
        self._of_one.clear()

    def last(self, organization: int) -> float:
        """The last change of this organization, or of all."""
        return self._of_one.get(organization, self._of_all)
