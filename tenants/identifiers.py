"""Public identifiers: a readable prefix and 96 random bits, as in ``org_…``."""

from __future__ import annotations

import secrets

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def random_text(length: int) -> str:
    """``length`` characters of 5.95 random bits each."""
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def new_organization_id() -> str:
    return "org_" + random_text(16)


def new_project_id() -> str:
    return "proj_" + random_text(16)


def new_key_id() -> str:
    return "key_" + random_text(16)
