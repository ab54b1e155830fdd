"""Secrets that must be read again, such as an identity provider's: encrypted at rest.

Fernet (AES-128-CBC with HMAC-SHA-256) under keys derived from ``FIELD_ENCRYPTION_KEY``.
The first secret of its comma list encrypts, every one decrypts: to rotate, put a new
one in front, save what was stored again, and drop the old one.
"""

from __future__ import annotations

import base64
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings


class Undecryptable(Exception):
    """What is stored was encrypted under a key, or for a purpose, that is not ours."""


def encrypt(text: str, *, purpose: str) -> bytes:
    """``purpose`` is part of the key: nothing decrypts in a place it was not meant for."""
    return _keys(settings.FIELD_ENCRYPTION_KEY, purpose).encrypt(text.encode())


def decrypt(stored: bytes | memoryview, *, purpose: str) -> str:
    try:
        return _keys(settings.FIELD_ENCRYPTION_KEY, purpose).decrypt(bytes(stored)).decode()
    except InvalidToken as error:
        raise Undecryptable(f"A stored secret ({purpose}) cannot be decrypted.") from error


@lru_cache(maxsize=32)
def _keys(secrets: str, purpose: str) -> MultiFernet:
    return MultiFernet([_derive(secret, purpose) for secret in parse_secrets(secrets)])


def parse_secrets(secrets: str) -> list[str]:
    return [secret.strip() for secret in secrets.split(",") if secret.strip()]


def _derive(secret: str, purpose: str) -> Fernet:
    # The setting is a long random secret, not a password, so no slow hash is needed.
    derivation = HKDF(algorithm=SHA256(), length=32, salt=None, info=f"sluice:{purpose}".encode())
    return Fernet(base64.urlsafe_b64encode(derivation.derive(secret.encode())))
