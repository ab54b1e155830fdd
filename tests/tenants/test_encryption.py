"""Secrets at rest: for one purpose each, and rotated without losing what is stored."""

from __future__ import annotations

from typing import Any

import pytest

from tenants.encryption import Undecryptable, decrypt, encrypt

OLD, NEW = "an old secret of enough length, at least", "a new secret of enough length, at least"


def test_what_is_encrypted_comes_back_and_never_looks_the_same() -> None:
    first, second = (encrypt("a secret", purpose="test") for _ in range(2))
    assert first != second
    assert b"a secret" not in first
    assert decrypt(memoryview(first), purpose="test") == "a secret"


def test_another_purpose_does_not_decrypt() -> None:
    with pytest.raises(Undecryptable):
        decrypt(encrypt("a secret", purpose="test"), purpose="another")


def test_rotation(settings: Any) -> None:
    settings.FIELD_ENCRYPTION_KEY = OLD
    stored = encrypt("a secret", purpose="test")
    settings.FIELD_ENCRYPTION_KEY = f"{NEW}, {OLD}"
    assert decrypt(stored, purpose="test") == "a secret"
    again = encrypt("a secret", purpose="test")
    settings.FIELD_ENCRYPTION_KEY = NEW
    assert decrypt(again, purpose="test") == "a secret"
    with pytest.raises(Undecryptable) as refusal:
        decrypt(stored, purpose="test")
    assert "secret (test)" in str(refusal.value) and NEW not in str(refusal.value)


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"gAAAAA"])
def test_damage_is_noticed(damage: bytes) -> None:
    with pytest.raises(Undecryptable):
        decrypt(damage, purpose="test")
