"""What a name given by a person must be."""

from __future__ import annotations

from tenants.errors import InvalidInput


def checked_name(name: str, param: str = "name") -> str:
    """The name without spaces around it, or InvalidInput."""
    name = name.strip()
    if not name:
        raise InvalidInput("A name is required.", param=param)
    if len(name) > 120:
        raise InvalidInput("A name has at most 120 characters.", param=param)
    if not name.isprintable():
        raise InvalidInput("A name has printable characters only.", param=param)
    return name
