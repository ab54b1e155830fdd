"""How alike two questions are, and where likeness must not be trusted. Pure, without numpy.

An embedding tells what a text is about. It hardly tells 12 from 13 (a problem with another
number in it: 0.99), "may I" from "may I not", or one function's name from another's: texts
that differ in such words never count as alike, however close their vectors are.
"""

from __future__ import annotations

import re
from array import array
from operator import mul

# "1,000" and "3.5" in one piece.
_NUMBER = re.compile(r"\d+(?:[.,:/-]\d+)*")
_NEGATION = re.compile(
    r"\b(?:not|no|none|never|neither|nor|without|cannot|except|unless)\b|n't\b|n’t\b",
    re.IGNORECASE,
)
# Addresses, and names that only programs and abbreviations have: snake_case, camelCase, HTTP.
_IDENTIFIER = re.compile(r"[\w.+-]+@[\w.-]+|\w+://\S+|\w*_\w+|\b[a-z]+[A-Z]\w*|\b[A-Z]{2,}\b")


def must_agree(text: str) -> str:
    """What two texts must have in common to be compared: numbers, identifiers, and whether
    they deny."""
    denials = len(_NEGATION.findall(text)) % 2
    identifiers = {name.lower() for name in _IDENTIFIER.findall(text)}
    return "|".join((str(denials), *sorted(_NUMBER.findall(text)), *sorted(identifiers)))


def vector_of(raw: bytes) -> array[float]:
    """An engine's embedding, little-endian floats; raises ValueError if it is none."""
    vector = array("f")
    vector.frombytes(raw)
    return vector


def sketch_of(vector: array[float]) -> bytes:
    """A bit for each dimension: its sign. Vectors that are alike differ in few bits."""
    bits = 0
    for value in vector:
        bits = bits << 1 | (value >= 0.0)
    return bits.to_bytes((len(vector) + 7) // 8, "big")


def nearest(sketch: bytes, others: list[bytes], most: int) -> list[int]:
    """Indexes of the sketches that differ least from this one, the nearest first."""
    mine = int.from_bytes(sketch, "big")
    distances = [
        ((mine ^ int.from_bytes(other, "big")).bit_count(), index)
        for index, other in enumerate(others)
    ]
    distances.sort()
    return [index for _, index in distances[:most]]


def similarity(one: array[float], other: array[float]) -> float:
    """Cosine of two vectors of length 1; of different models' vectors there is none (0)."""
    return sum(map(mul, one, other)) if len(one) == len(other) else 0.0
