"""Terms of API keys on the wire, shared by every kind of key: what it may, until when."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any

from django.utils import timezone
from msgspec import UNSET, Meta, UnsetType

from api.management.limits import Limits, NewLimits, given, limits_of
from api.management.wire import Answer, Body, Seconds, Text
from tenants.actions import KeyTerms
from tenants.keys import PREFIXES
from tenants.models import ApiKey

Names = Annotated[list[Text], Meta(max_length=200)]


class NewTerms(Body, frozen=True, kw_only=True):
    """What is left out stays as it is, or without restriction in a new key."""

    name: Text | UnsetType = UNSET
    scopes: Names | UnsetType = UNSET
    allowed_models: Names | UnsetType = UNSET
    allowed_networks: Names | UnsetType = UNSET
    expires_in_seconds: Seconds | UnsetType | None = UNSET
    limits: NewLimits | UnsetType = UNSET


class Terms(Answer, frozen=True, kw_only=True):
    scopes: list[str]
    allowed_models: list[str]
    allowed_networks: list[str]
    limits: Limits
    previous_secret_expires_at: int | None


class Rotation(Body, frozen=True, kw_only=True):
    """For how long the secret before still works; a day, unless given."""

    overlap_seconds: Annotated[int, Meta(ge=0, le=30 * 86_400)] = 86_400


def terms_from(body: NewTerms, key: ApiKey | None = None) -> KeyTerms | None:
    """The terms that a key shall have; None if the client said nothing of them."""
    sent = given(body)
    sent.pop("name", None)
    limits = given(sent.pop("limits", None))
    changes: dict[str, Any] = {}
    if "expires_in_seconds" in sent:
        seconds = sent.pop("expires_in_seconds")
        changes["expires_at"] = timezone.now() + timedelta(seconds=seconds) if seconds else None
    changes |= {name: tuple(value) for name, value in sent.items()}
    if not changes and not limits:
        return None
    before = KeyTerms() if key is None else terms_of(key)
    return replace(before, **changes, limits={**before.limits, **limits})


def terms_of(key: ApiKey) -> KeyTerms:
    return KeyTerms(
        scopes=tuple(key.scopes),
        allowed_models=tuple(key.allowed_models),
        allowed_networks=tuple(key.allowed_networks),
        expires_at=key.expires_at,
        limits={name: getattr(key, name) for name in Limits.__struct_fields__},
    )


def shown_terms(key: ApiKey) -> dict[str, Any]:
    """``Terms`` as keyword arguments, for the answers that carry them."""
    overlap = key.previous_expires_at
    return {
        "scopes": key.scopes,
        "allowed_models": key.allowed_models,
        "allowed_networks": key.allowed_networks,
        "limits": limits_of(key),
        "previous_secret_expires_at": (
            int(overlap.timestamp()) if overlap and overlap > timezone.now() else None
        ),
    }


def redacted(key: ApiKey) -> str:
    return f"{PREFIXES[key.kind]}...{key.last_four}"
