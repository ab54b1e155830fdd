"""Lines' bytes out of the input file: neighbours in one read."""

from __future__ import annotations

from collections.abc import Sequence

from inference.batches.lines import HeldLine
from inference.objects import object_store

# Read over rather than asked for anew: a round trip to a bucket costs more.
SMALL_GAP_BYTES = 64 * 1024
MOST_READ_BYTES = 4 << 20


def read_lines(lines: Sequence[HeldLine]) -> list[bytes]:
    """Of one batch, in the file's order; as many as were asked for."""
    contents: list[bytes] = []
    at = 0
    while at < len(lines):
        end = _span_end(lines, at)
        first, last = lines[at], lines[end - 1]
        pieces = object_store().read(
            first.batch.input_key, first.position, last.position + last.length
        )
        span = b"".join(pieces)
        for line in lines[at:end]:
            begin = line.position - first.position
            contents.append(span[begin : begin + line.length])
        at = end
    return contents


def _span_end(lines: Sequence[HeldLine], begin: int) -> int:
    """The place after the last line that is read together with the one at ``begin``."""
    end = begin + 1
    while end < len(lines):
        before, line = lines[end - 1], lines[end]
        gap = line.position - before.position - before.length
        size = line.position + line.length - lines[begin].position
        if gap > SMALL_GAP_BYTES or size > MOST_READ_BYTES:
            break
        end += 1
    return end
