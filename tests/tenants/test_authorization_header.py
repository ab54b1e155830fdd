"""Odd and hostile Authorization headers: 401, and nothing changes."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenants import keys
from tenants.authentication import Authenticator, get_principal, parse_bearer
from tenants.errors import InvalidApiKey
from tenants.models import ApiKey, AuditEvent, Organization
from tests.cast import Cast, build_cast
from tests.tenants.database import in_thread, watched_queries

# CVE-2026-42208: a key was put into SQL by an error path's own query.
INJECTIONS = (
    "' OR '1'='1",
    "sk-proj-' OR 1=1 --",
    "'; DELETE FROM tenants_apikey; --",
    "sk-proj-'||(SELECT pg_sleep(9))||'",
    "$$; UPDATE tenants_organization SET suspended_at = NULL; $$",
    "sk-proj-" + "%s" * 26,
    "sk-proj-" + "'" * 52,
    "\\x27 UNION SELECT secret_hmac FROM tenants_apikey",
)


@pytest.mark.parametrize("header", [None, b"", b"Bearer", b"Bearer ", b"Basic abc", b"sk-proj-x"])
def test_a_header_without_a_key_says_how_to_send_one(header: bytes | None) -> None:
    with pytest.raises(InvalidApiKey, match="Bearer YOUR_KEY") as refusal:
        parse_bearer(header)

    assert (refusal.value.status, refusal.value.code) == (401, "invalid_api_key")


@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer", b"BEARER"])
def test_the_scheme_is_read_in_any_case(scheme: bytes) -> None:
    assert parse_bearer(scheme + b"  sk-proj-abc ") == "sk-proj-abc"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_key_text_or_a_401(header: bytes) -> None:
    try:
        assert parse_bearer(header).isascii()
    except InvalidApiKey as refusal:
        assert refusal.status == 401


@given(st.one_of(st.binary(max_size=80), st.sampled_from([text.encode() for text in INJECTIONS])))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
async def test_a_malformed_key_is_refused_without_a_query(key: bytes) -> None:
    with watched_queries() as statements, pytest.raises(InvalidApiKey) as refusal:
        await Authenticator().authenticate(b"Bearer " + key)

    assert statements == []
    # What the client sent is not sent back: error pages and logs are read elsewhere.
    assert len(key) < 8 or key.decode("latin-1") not in refusal.value.message


@pytest.mark.django_db(transaction=True)
async def test_an_injection_in_a_well_formed_place_changes_nothing() -> None:
    """Straight into the query, past the check of the key's form."""
    cast: Cast = await in_thread(build_cast)

    def state() -> tuple[object, ...]:
        return (
            list(ApiKey.objects.order_by("pk").values_list()),
            list(Organization.objects.order_by("pk").values_list()),
            AuditEvent.objects.count(),
        )

    before = await in_thread(state)
    for text in INJECTIONS:
        digest = keys.digest(text, "any")
        assert await in_thread(get_principal, text, digest) is None
        with pytest.raises(InvalidApiKey):
            await Authenticator().authenticate(b"Bearer " + text.encode())

    assert await in_thread(state) == before
    assert (await Authenticator().authenticate(f"Bearer {cast.owner_key}".encode())).api_key
