"""What a request's headers ask for beside its body: ``x-sluice-…``, pure.

Headers and not fields of the body, so that bodies stay OpenAI's and any client that can
set a header can use them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from inference.errors import InvalidRequest

LONGEST_AGE_S = 86_400
IDEMPOTENCY_KEY = b"idempotency-key"
_NAMES = (b"x-sluice-", IDEMPOTENCY_KEY)


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
    is_resumable: bool = False  # its stream is logged, and goes on without its client
    idempotency_key: bytes | None = None

    @property
    def is_kept(self) -> bool:
        """Whether the answer outlives its request (``api.kept``)."""
        return self.is_resumable or self.idempotency_key is not None


DEFAULT = Controls()
_KEY = re.compile(rb"[!-~]{1,255}")
_WORDS = {
    b"no-cache": {"reads_cache": False},
    b"no-store": {"writes_cache": False},
    b"semantic": {"wants_semantic": True},
    b"no-semantic": {"wants_semantic": False},
}


def controls_of(headers: list[tuple[bytes, bytes]]) -> Controls:
    """Raises InvalidRequest naming the header."""
    named = [(name, value) for name, value in headers if name.startswith(_NAMES)]
    if not named:
        return DEFAULT
    found = {name: value.strip().lower() for name, value in named}
    return replace(
        _cache(found.get(b"x-sluice-cache", b"")),
        allows_fallback=_flag(found, b"x-sluice-allow-fallback"),
        wants_explanation=_flag(found, b"x-sluice-debug") or False,
        is_resumable=_flag(found, b"x-sluice-resumable") or False,
        idempotency_key=key_of([value for name, value in named if name == IDEMPOTENCY_KEY]),
    )


def key_of(values: list[bytes]) -> bytes | None:
    if not values:
        return None
    if len(values) > 1 or not _KEY.fullmatch(values[0]):
        raise InvalidRequest(
            "Send one Idempotency-Key of 1 to 255 visible ASCII characters.",
            param=IDEMPOTENCY_KEY.decode(),
        )
    return bytes(values[0])


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
            asked = replace(asked, **_WORDS[part])  # type: ignore[arg-type]  # flags all
        elif name == b"max-age" and number.isdigit() and len(number) < 10:
            asked = replace(asked, max_age_s=min(LONGEST_AGE_S, int(number)))
        else:
            raise InvalidRequest(
                "The header 'x-sluice-cache' holds no-cache, no-store, semantic, no-semantic or "
                "max-age=<seconds>.",
                param="x-sluice-cache",
            )
    return asked
