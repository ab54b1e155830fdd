"""Whether an audit chain is whole. Pure: an exported file is checked as the table is.

Each organization has a chain, and the platform has one of what belongs to no
organization. A link's hash is SHA-256 over ``<hash before>|<number>|<content>``,
numbers begin at 1, and the first link's hash before is empty. What this finds and
what only a head kept elsewhere finds: docs/adr/0016-audit-chain.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from ipaddress import ip_address
from typing import Any


@dataclass(frozen=True, slots=True)
class Link:
    """What is hashed of one event: all that an offline check needs."""

    number: int
    previous_hash: str
    hash: str
    content: str


@dataclass(frozen=True, slots=True)
class Head:
    """A place in a chain, ``number:hash`` as text."""

    number: int
    hash: str

    def __str__(self) -> str:
        return f"{self.number}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """ValueError for what is no head."""
        number, _, digest = text.strip().partition(":")
        if len(digest) != 64 or int(digest, 16) < 0 or int(number) < 1:
            raise ValueError(f"“{text[:90]}” is no head; one looks like 153:<64 hex digits>.")
        return cls(int(number), digest.lower())


EMPTY = Head(0, "")


class Fault(StrEnum):
    EDITED = "its hash is not that of its content: it was edited"
    COLUMNS = "its columns do not say what its content says"
    BROKEN = "it does not follow from the row before: one of the two was replaced"
    MISSING = "rows before it are missing"
    REPEATED = "its number comes twice or out of order: it was forged"
    HEAD = "it is not the row that the chain's stored head names"
    KEPT = "it is not the row that the head kept elsewhere names: the chain was rewritten"
    TRUNCATED = "the chain ends before it: rows at the end are missing"
    BEYOND = "the chain's stored head does not know it: it was forged, or the head was set back"
    HEADLESS = "the chain has no stored head"
    UNCHAINED = "it has no number, though the chain had begun: it was forged or unhooked"


@dataclass(frozen=True, slots=True)
class Finding:
    """``number`` is the row's in its chain, 0 for a row without one."""

    number: int
    fault: Fault
    detail: str = ""

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        return f"row {self.number}{detail}: {self.fault}"


def hash_of(previous_hash: str, number: int, content: str) -> str:
    text = f"{previous_hash}|{number}|{content}"
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


class ChainCheck:
    """Takes a chain's links in their order, then says at ``finish`` whether its end is there.

    ``stored`` is the head that the database holds, read before the links were;
    ``kept`` are heads that were noted earlier and kept elsewhere.
    """

    def __init__(self, stored: Head | None = None, kept: Iterable[Head] = ()) -> None:
        self.last = EMPTY
        self.links = 0
        self._expected = [(head, Fault.KEPT) for head in kept]
        if stored is not None and stored.number:
            self._expected.append((stored, Fault.HEAD))

    def take(self, link: Link) -> Iterator[Finding]:
        self.links += 1
        if link.number <= self.last.number:
            yield Finding(link.number, Fault.REPEATED)
        elif link.number > self.last.number + 1:
            yield Finding(link.number, Fault.MISSING, _span(self.last.number + 1, link.number - 1))
        elif link.previous_hash != self.last.hash:
            yield Finding(link.number, Fault.BROKEN)
        if link.hash != hash_of(link.previous_hash, link.number, link.content):
            yield Finding(link.number, Fault.EDITED)
        for head, fault in self._expected:
            if head.number == link.number and head.hash != link.hash:
                yield Finding(link.number, fault)
        self.last = Head(link.number, link.hash)

    def finish(self) -> Iterator[Finding]:
        missing = [head.number for head, _ in self._expected if head.number > self.last.number]
        if missing:
            detail = _span(self.last.number + 1, max(missing))
            yield Finding(max(missing), Fault.TRUNCATED, detail)


def _span(first: int, last: int) -> str:
    return f"row {first}" if first == last else f"rows {first} to {last}"


# --- Columns beside the content ------------------------------------------------------------

# Names in the content, in the order of the columns that repeat them (tenants.audit).
FIELDS = (
    "id", "at", "organization", "actor", "user", "key", "project", "action", "object_type",
    "object_id", "before", "after", "address",
)  # fmt: skip
_AT, _ADDRESS = FIELDS.index("at"), FIELDS.index("address")


def differing_fields(content: str, columns: Sequence[Any]) -> list[str]:
    """Names of the fields whose column differs from the content; columns as ``FIELDS``."""
    try:
        event = json.loads(content)
        told = [event[name] for name in FIELDS]
        told[_AT] = datetime.fromisoformat(told[_AT])
        differing = [name for name, a, b in zip(FIELDS, told, columns, strict=True) if a != b]
        if "address" in differing and _is_one_address(told[_ADDRESS], columns[_ADDRESS]):
            differing.remove("address")
    except (ValueError, TypeError, KeyError):
        return ["content"]
    return differing


def _is_one_address(one: str | None, other: str | None) -> bool:
    """PostgreSQL may write an address in another way than it was given."""
    return one is not None and other is not None and ip_address(one) == ip_address(other)


# --- An exported file ---------------------------------------------------------------------

# Longer lines are no export of ours; a bound, so that no file fills the memory.
LONGEST_LINE = 4_000_000


def to_line(link: Link) -> str:
    """One line of a JSON-lines export."""
    fields = {
        "number": link.number,
        "previous_hash": link.previous_hash,
        "hash": link.hash,
        "content": link.content,
    }
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False) + "\n"


def from_line(line: str) -> Link:
    """ValueError for what ``to_line`` never wrote."""
    fields = json.loads(line)
    if not isinstance(fields, dict):
        raise ValueError("not an object")
    try:
        link = Link(*(fields[name] for name in ("number", "previous_hash", "hash", "content")))
    except KeyError as error:
        raise ValueError(f"no field {error}") from error
    texts = (link.previous_hash, link.hash, link.content)
    if type(link.number) is not int or not all(isinstance(text, str) for text in texts):
        raise ValueError("fields of other types")
    return link
