"""What a request's headers ask for beside its body: ``x-sluice-…``, pure.

Headers and not fields of the body, so that bodies stay OpenAI's and any client that can
set a header can use them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from inference.errors import InvalidRequest

LONGEST_AGE_S = 86_400
_PREFIX = b"x-sluice-"


@dataclass(frozen=True, slots=True)
class Controls:
    # None: another model may answer when no replica of this one lives, not for being busy.
    allows_fallback: bool | None = None
    wants_explanation: bool = False
    reads_cache: bool = True
    writes_cache: bool = True
    max_age_s: int | None = None  # of a cached answer, when read and when kept
    # Whether the answer to a similar question will do; None: as the organization says.
    wants_semantic: bool | None = None


DEFAULT = Controls()
_WORDS = {
    b"no-cache": {"reads_cache": False},
    b"no-store": {"writes_cache": False},
    b"semantic": {"wants_semantic": True},
    b"no-semantic": {"wants_semantic": False},
}


def controls_of(headers: list[tuple[bytes, bytes]]) -> Controls:
    """Raises InvalidRequest naming the header."""
    found = {name: value.strip().lower() for name, value in headers if name.startswith(_PREFIX)}
    if not found:
        return DEFAULT
    return replace(
        _cache(found.get(b"x-sluice-cache", b"")),
        allows_fallback=_flag(found, b"x-sluice-allow-fallback"),
        wants_explanation=_flag(found, b"x-sluice-debug") or False,
    )


def _flag(found: dict[bytes, bytes], name: bytes) -> bool | None:
    value = found.get(name)
    if value is None:
        return None
    if value in (b"1", b"true"):
        return True
    if value in (b"0", b"false"):
        return False
    raise InvalidRequest(f"The header '{name.decode()}' is true or false.", param=name.decode())


def _cache(value: bytes) -> Controls:
    asked = DEFAULT
    for part in filter(None, (part.strip() for part in value.split(b","))):
        name, _, number = part.partition(b"=")
        if part in _WORDS:
            asked = replace(asked, **_WORDS[part])
        elif name == b"max-age" and number.isdigit() and len(number) < 10:
            asked = replace(asked, max_age_s=min(LONGEST_AGE_S, int(number)))
        else:
            raise InvalidRequest(
                "The header 'x-sluice-cache' holds no-cache, no-store, semantic, no-semantic or "
                "max-age=<seconds>.",
                param="x-sluice-cache",
            )
    return asked
