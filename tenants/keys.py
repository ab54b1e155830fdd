"""API key secrets: how they look, and how they are stored.

A prefix that tells the kind (``sk-proj-``, ``sk-svcacct-``, ``sk-admin-``) + 12
characters of lookup + 40 of secret (238 random bits). The lookup part finds the row;
HMAC-SHA-256 of the whole text under the pepper is compared in constant time. Pure
functions, no database.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from tenants.identifiers import ALPHABET, random_text

# By kind of key (``ApiKey.Kind``); OpenAI's own prefixes, which scanners know.
PREFIXES = {"project": "sk-proj-", "service_account": "sk-svcacct-", "admin": "sk-admin-"}
LOOKUP_LENGTH = 12
SECRET_LENGTH = 40
_BODY = LOOKUP_LENGTH + SECRET_LENGTH
LONGEST = max(map(len, PREFIXES.values())) + _BODY
_PREFIXES = frozenset(PREFIXES.values())
_ALLOWED = frozenset(ALPHABET)


@dataclass(frozen=True)
class NewSecret:
    """A secret at its birth, the only time its text exists outside the client."""

    text: str
    lookup: str
    digest: bytes

    @property
    def last_four(self) -> str:
        return self.text[-4:]


def digest(text: str, pepper: str) -> bytes:
    """32 bytes: HMAC-SHA-256 of the key's text under ``pepper``."""
    return hmac.digest(pepper.encode(), text.encode(), "sha256")


def new_secret(pepper: str, kind: str = "project") -> NewSecret:
    lookup = random_text(LOOKUP_LENGTH)
    text = PREFIXES[kind] + lookup + random_text(SECRET_LENGTH)
    return NewSecret(text=text, lookup=lookup, digest=digest(text, pepper))


def lookup_of(text: str) -> str | None:
    """The lookup part of a well-formed key of any kind, else None."""
    body = text[-_BODY:]
    if text[:-_BODY] not in _PREFIXES or not _ALLOWED.issuperset(body):
        return None
    return body[:LOOKUP_LENGTH]
