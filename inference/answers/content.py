"""What was said, as it lies in the database."""

from __future__ import annotations

from typing import Any

import msgspec

from tenants import encryption

_PURPOSE = "answer"


def seal(content: dict[str, Any]) -> bytes:
    return encryption.encrypt(msgspec.json.encode(content).decode(), purpose=_PURPOSE)


def unseal(stored: bytes | memoryview) -> dict[str, Any]:
    content: dict[str, Any] = msgspec.json.decode(encryption.decrypt(stored, purpose=_PURPOSE))
    return content
