"""What answers look like. The handlers write most of them as bytes or dicts, for speed; the
document's test holds live answers against these, in which nothing may be that is not said here.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

ServiceTier = Literal["default", "flex", "priority"]


class Shape(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Times are Unix seconds."""
