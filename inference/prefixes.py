"""Which replica has the beginning of a prompt in its KV cache, as far as a gateway knows.

Prompts are hashed block by block, each hash over its block and the hash before it,
so that equal hashes mean equal prompts up to there; the longest known one wins. The
organization is in the first hash: engines separate caches by it, so must we.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile

# Small blocks where system prompts differ; further on each is a third to a half of what is
# before it, because where a long document ends in the cache needs no better than that, and
# every block is another hash and look-up: 13 of them for a thousand tokens.
_ENDS = (*range(16, 128, 16), 128, 192, 256, 384, 512, 768, 1_024, 1_536, 2_048)
# Each generation; at some 100 bytes an entry both stay below 20 MB.
BLOCKS_KEPT = 100_000


def block_ends(tokens: int) -> Iterator[int]:
    """Where blocks of a prompt of so many tokens end; the unfinished last one has no end."""
    return takewhile(tokens.__ge__, _ENDS)


def chain(organization: int, version: int, prompt_ids: list[int]) -> list[tuple[int, int]]:
    """``(tokens, hash)`` of each block's end, the shortest first."""
    before, start, found = hash((organization, version)), 0, []
    ids = tuple(prompt_ids[: _ENDS[-1]])
    for end in block_ends(len(ids)):
        before = hash((before, ids[start:end]))
        found.append((end, before))
        start = end
    return found


class PrefixIndex:
    """Bounded by two generations: what was not asked for during a whole one is forgotten."""

    def __init__(self, blocks_kept: int = BLOCKS_KEPT):
        self._most = blocks_kept
        self._young: dict[int, str] = {}
        self._old: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def find(self, blocks: list[tuple[int, int]]) -> tuple[str, int]:
        """``(replica, tokens)`` of the longest beginning that is known; ``("", 0)`` of none."""
        young, old = self._young, self._old
        for tokens, block in reversed(blocks):
            replica = young.get(block) or old.get(block)
            if replica is not None:
                return replica, tokens
        return "", 0

    def remember(self, blocks: list[tuple[int, int]], replica: str) -> None:
        for _, block in blocks:
            self._young[block] = replica
        if len(self._young) >= self._most:
            self._old, self._young = self._young, {}
