"""Every address of accounts is limited: read from the URL configuration itself."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from portal.ratelimits import LIMITS
from tests.cast import Cast
from tests.portal.conftest import log_in

# Constant pages: they change nothing, read nothing secret and refuse to be posted to.
CONSTANT = {
    "account_inactive",
    "account_email_verification_sent",
    "account_reset_password_done",
    "account_reset_password_from_key_done",
    "socialaccount_login_cancelled",
    "mfa_list_webauthn",
    "mfa_index",
    "mfa_view_recovery_codes",
    "second_factor_required",
    "saml_sls",
    "providers",
}


def walk(resolver: URLResolver) -> list[URLPattern]:
    found = []
    for pattern in resolver.url_patterns:
        found += walk(pattern) if isinstance(pattern, URLResolver) else [pattern]
    return found


def is_of_accounts(pattern: URLPattern) -> bool:
    route = str(pattern.pattern).lstrip("^")
    return route.startswith("accounts/") or "second-factor" in route or "single-sign-on" in route


ACCOUNTS = {pattern.name: pattern for pattern in walk(get_resolver()) if is_of_accounts(pattern)}


def test_the_walk_finds_them() -> None:
    assert len(ACCOUNTS) > 30
    assert set(ACCOUNTS) >= CONSTANT


@pytest.mark.parametrize("name", sorted(set(ACCOUNTS) - CONSTANT))
def test_every_address_has_a_limit(name: str) -> None:
    page = getattr(ACCOUNTS[name].callback, "limited_as", None)
    assert page in LIMITS, f"{name} is not behind limited(…)"
    assert all(limit.reason for limit in LIMITS[page])


@pytest.mark.django_db
@pytest.mark.parametrize("name", sorted(CONSTANT))
def test_a_page_without_limit_cannot_be_posted_to(cast: Cast, name: str) -> None:
    values: dict[str, Any] = {
        "organization_id": cast.organization.public_id,
        "organization_slug": "acme.idp_x",
    }
    route = str(ACCOUNTS[name].pattern)
    for key, value in values.items():
        route = route.replace(f"<str:{key}>", value)
    for client in (Client(), log_in(cast.owner)):
        assert client.post("/" + route).status_code in {302, 404, 405}


@pytest.mark.django_db
def test_allauth_addresses_that_we_do_not_offer_do_not_exist(cast: Cast) -> None:
    client = log_in(cast.owner)
    for path in (
        "login/code/",
        "login/code/confirm/",
        "reauthenticate/",
        "3rdparty/",
        "social/connections/",
        "social/signup/",
        "2fa/",
        "2fa/recovery-codes/download/",
        "oidc/acme/login/",
        "saml/acme/login/",
        "saml/acme/sls/",
        "phone/change/",
    ):
        assert client.get("/accounts/" + path).status_code == 404, path
