"""SAML: a signed answer logs in once; every other kind of answer does not."""

from __future__ import annotations

import base64
import html
import re
from typing import Any

import pytest
from django.test import Client

from tenants import access
from tenants.actions import single_sign_on
from tenants.actions.single_sign_on import ProviderTerms
from tenants.identity_providers import handle_of
from tenants.models import AuditEvent, IdentityProvider, Membership, Role, User
from tests.cast import Cast
from tests.portal.identity import (
    ENTITY_ID,
    SSO_URL,
    certificate_named,
    request_id_of,
    saml_response,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def provider(cast: Cast) -> IdentityProvider:
    membership = Membership.objects.get(user=cast.owner, organization=cast.organization)
    made = single_sign_on.create_identity_provider(
        cast.organization,
        "saml",
        "acme",
        ProviderTerms(
            name="Acme SAML",
            settings={
                "entity_id": ENTITY_ID,
                "sso_url": SSO_URL,
                "x509cert": certificate_named("saml"),
            },
            default_role=Role.VIEWER,
            is_enabled=True,
        ),
        actor=access.get_actor(membership),
    )
    return single_sign_on.verify_domains(made, ["acme.test"], acting_user=cast.staff)


class Browser:
    """One browser on its way to the provider and back."""

    def __init__(self, provider: IdentityProvider) -> None:
        self.client = Client(headers={"host": "testserver"})
        self.base = f"http://testserver/accounts/saml/{handle_of(provider)}"

    def begin(self) -> str:
        """The ID of the request that the provider is asked to answer."""
        page = self.client.post("/accounts/single-sign-on/", {"name": "acme"}).content.decode()
        found = re.search(r'content="0; url=([^"]+)"', page)
        assert found, page
        url = html.unescape(found[1])
        assert url.startswith(SSO_URL)
        return request_id_of(url)

    def answer(self, request_id: str, **changes: Any) -> str:
        given = {
            "email": "hire@acme.test",
            "acs": f"{self.base}/acs/",
            "audience": f"{self.base}/metadata/",
            "request_id": request_id,
        }
        return saml_response(**(given | changes))

    def post(self, answer: str) -> Any:
        """As the provider's page does, from another site: then on, with our cookie."""
        taken = self.client.post(f"{self.base}/acs/", {"SAMLResponse": answer})
        return self.client.get(taken["Location"])

    @property
    def is_logged_in(self) -> bool:
        return "_auth_user_id" in self.client.session


def test_a_signed_answer_logs_in_and_makes_a_member(cast: Cast, provider: IdentityProvider) -> None:
    browser = Browser(provider)
    response = browser.post(browser.answer(browser.begin()))
    assert response.status_code == 302, response.content.decode()
    user = User.objects.get(email="hire@acme.test")
    membership = Membership.objects.get(user=user)
    assert (membership.organization, membership.role) == (cast.organization, Role.VIEWER)
    assert browser.is_logged_in


def tampered(answer: str) -> str:
    xml = base64.b64decode(answer).decode()
    assert "hire@acme.test" in xml
    return base64.b64encode(xml.replace("hire@acme.test", "ceo@acme.test").encode()).decode()


def unsigned(answer: str) -> str:
    xml = base64.b64decode(answer).decode()
    stripped = re.sub(r"<ds:Signature.*</ds:Signature>", "", xml, flags=re.DOTALL)
    assert stripped != xml
    return base64.b64encode(stripped.encode()).decode()


def wrapped(answer: str) -> str:
    """The signed assertion moved aside, a forged one in its place."""
    xml = base64.b64decode(answer).decode()
    assertion = re.search(r"<saml:Assertion.*</saml:Assertion>", xml, flags=re.DOTALL)
    assert assertion
    forged = re.sub(r"<ds:Signature.*</ds:Signature>", "", assertion[0], flags=re.DOTALL)
    forged = forged.replace("hire@acme.test", "ceo@acme.test").replace('ID="_', 'ID="_f', 1)
    xml = xml.replace(assertion[0], forged + assertion[0])
    return base64.b64encode(xml.encode()).decode()


@pytest.mark.parametrize(
    ("changes", "damage"),
    [
        ({}, tampered),
        ({}, unsigned),
        ({}, wrapped),
        ({"key": "forged"}, None),
        ({"audience": "https://another-service.test/"}, None),
        ({"audience": ""}, None),
        ({"issuer": "https://evil.test"}, None),
        ({"valid_s": -30}, None),
        ({"acs": "http://testserver/elsewhere/"}, None),
        ({"answers": "ONELOGIN_another_request"}, None),
        ({"email": "hire@elsewhere.test"}, None),
    ],
    ids=[
        "tampered", "unsigned", "wrapped", "foreign key", "foreign audience", "no audience",
        "foreign issuer", "expired", "foreign recipient", "foreign request", "foreign domain",
    ],
)  # fmt: skip
def test_a_bad_answer_logs_nobody_in(
    cast: Cast, provider: IdentityProvider, changes: dict[str, Any], damage: Any
) -> None:
    browser = Browser(provider)
    before = User.objects.count()
    answer = browser.answer(browser.begin(), **changes)
    response = browser.post(damage(answer) if damage else answer)
    assert response.status_code in {401, 403}
    assert "portal/layout.css" in response.content.decode()
    assert not browser.is_logged_in
    assert User.objects.count() == before
    failed = AuditEvent.objects.filter(action="login.failed", organization=cast.organization)
    assert failed.exists()


def test_a_replayed_answer_is_refused(provider: IdentityProvider) -> None:
    browser = Browser(provider)
    answer = browser.answer(browser.begin())
    assert browser.post(answer).status_code == 302
    browser.client.logout()
    assert browser.post(answer).status_code == 403
    assert not browser.is_logged_in
    thief = Browser(provider)
    thief.begin()
    assert thief.post(answer).status_code == 403
    assert not thief.is_logged_in


def test_a_captured_assertion_is_refused_in_a_new_envelope(provider: IdentityProvider) -> None:
    """The assertion is captured in flight and put into an answer to the thief's own request."""
    victim, thief = Browser(provider), Browser(provider)
    theirs = victim.begin()
    captured = base64.b64decode(victim.answer(theirs)).decode()
    mine = thief.begin()
    head, rest = captured.split("<saml:Assertion", 1)
    renamed = head.replace(f'InResponseTo="{theirs}"', f'InResponseTo="{mine}"')
    forged = base64.b64encode(f"{renamed}<saml:Assertion{rest}".encode()).decode()
    assert thief.post(forged).status_code in {401, 403}
    assert not thief.is_logged_in


def test_an_answer_nobody_asked_for_is_refused(provider: IdentityProvider) -> None:
    browser = Browser(provider)
    assert browser.post(browser.answer("ONELOGIN_made_up")).status_code == 403
    assert not browser.is_logged_in


@pytest.mark.parametrize("garbage", ["", "!!!", "PHg+", "A" * 300_000])
def test_garbage_is_refused_without_an_error(provider: IdentityProvider, garbage: str) -> None:
    browser = Browser(provider)
    browser.begin()
    taken = browser.client.post(f"{browser.base}/acs/", {"SAMLResponse": garbage})
    response = browser.client.get(taken["Location"]) if taken.status_code == 302 else taken
    assert response.status_code in {401, 403}
    assert not browser.is_logged_in


def test_metadata_tells_where_and_offers_no_log_out(provider: IdentityProvider) -> None:
    browser = Browser(provider)
    page = browser.client.get(f"{browser.base}/metadata/")
    text = page.content.decode()
    assert f"{browser.base}/acs/" in text
    assert "SingleLogoutService" not in text
    assert (
        browser.client.get(f"{browser.base}/logout/?RelayState=https://evil.test").status_code
        == 404
    )
