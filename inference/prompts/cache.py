"""Token ids of texts seen before, bounded by the characters it holds."""

from __future__ import annotations

import threading
from collections import OrderedDict

# One gateway process; ids take about nine bytes a character of English, so 20 MB.
MAX_CHARS = 2_000_000
# What an entry costs beside its text, so that a million tiny texts are bounded too.
ENTRY_CHARS = 64

Key = tuple[int, str]


class TokenCache:
    """Least recently used goes first. Keys carry a scope (the organization).

    The value is a pure function of the text, so a hit can never show another
    organization's data; the scope is there so that neither does its speed.
    """

    def __init__(self, max_chars: int = MAX_CHARS):
        self.max_chars = max_chars
        self.chars = 0
        self._entries: OrderedDict[Key, tuple[int, ...]] = OrderedDict()
        # Threads of large requests share it with the event loop.
        self._lock = threading.Lock()

    def get(self, key: Key) -> tuple[int, ...] | None:
        with self._lock:
            ids = self._entries.get(key)
            if ids is not None:
                self._entries.move_to_end(key)
            return ids

    def put(self, key: Key, ids: tuple[int, ...]) -> None:
        """Remember ``ids``, unless the text alone would push out most of the rest."""
        cost = _cost(key)
        if cost > self.max_chars // 8:
            return
        with self._lock:
            if key in self._entries:
                return
            self._entries[key] = ids
            self.chars += cost
            while self.chars > self.max_chars:
                oldest, _ = self._entries.popitem(last=False)
                self.chars -= _cost(oldest)

    def __len__(self) -> int:
        return len(self._entries)


def _cost(key: Key) -> int:
    return len(key[1]) + ENTRY_CHARS
