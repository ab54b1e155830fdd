"""Passkeys in a real browser with a virtual authenticator, and the pages of accounts.

Screenshots land in ``tests/artifacts/`` for people to look at.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from allauth.mfa.models import Authenticator

from tenants import access
from tenants.actions import single_sign_on
from tenants.actions.single_sign_on import ProviderTerms
from tenants.models import AuditEvent, Membership, Organization
from tests.cast import PASSWORD, Cast, build_cast
from tests.portal.test_browser import (  # noqa: F401 - fixtures
    CHROMIUM,
    NARROW,
    WIDE,
    chromium,
    complaint_of,
    fits,
    shoot,
)

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no Chromium at {CHROMIUM}; CHROMIUM=<path>"),
    pytest.mark.django_db(transaction=True),
]


class Visitor:
    """A page with a device that holds passkeys; a console error fails the test."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        # Browsers give passkeys to host names only.
        base = url.replace("127.0.0.1", "localhost")
        self.context = browser.new_context(base_url=base, **({"viewport": WIDE} | options))
        self.context.set_default_timeout(10_000)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.cdp = self.context.new_cdp_session(self.page)
        self.cdp.send("WebAuthn.enable")

    def _note(self, message: Any) -> None:
        # Chromium writes a status of 4xx to the console; the page that explains has one.
        self.complaints += [text for text in complaint_of(message) if "403" not in text]

    def plug_in(self, *, verifies: bool = True) -> str:
        options = {
            "protocol": "ctap2",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": verifies,
            "automaticPresenceSimulation": True,
        }
        answer = self.cdp.send("WebAuthn.addVirtualAuthenticator", {"options": options})
        return str(answer["authenticatorId"])

    def set_verified(self, device: str, verified: bool) -> None:
        given = {"authenticatorId": device, "isUserVerified": verified}
        self.cdp.send("WebAuthn.setUserVerified", given)

    def log_in(self, email: str) -> None:
        self.page.goto("/accounts/login/")
        self.page.get_by_label("Email").fill(email)
        self.page.get_by_label("Password", exact=True).fill(PASSWORD)
        self.page.get_by_role("button", name="Log in", exact=True).click()

    def log_out(self) -> None:
        self.page.get_by_label("Account of").click()
        self.page.get_by_role("button", name="Log out").click()
        self.page.wait_for_url("**/accounts/login/")

    def confirm(self) -> None:
        """The password again, if the page asks for it."""
        if "/accounts/confirm/" in self.page.url:
            self.page.get_by_label("Password", exact=True).fill(PASSWORD)
            self.page.get_by_role("button", name="Continue").click()

    def add_passkey(self, name: str, *, alone: bool = True) -> None:
        self.page.goto("/accounts/passkeys/add/")
        self.confirm()
        self.page.get_by_label("Name").fill(name)
        self.page.get_by_label("Log in with it alone").set_checked(alone)
        self.page.get_by_role("button", name="Add passkey").click()


@pytest.fixture
def visit(chromium: Any, live_server: Any, settings: Any) -> Iterator[Any]:  # noqa: F811
    settings.ALLOWED_HOSTS = ["*"]
    visitors: list[Visitor] = []

    def make(**options: Any) -> Visitor:
        visitors.append(Visitor(chromium, live_server.url, **options))
        return visitors[-1]

    yield make
    for visitor in visitors:
        visitor.context.close()
        assert visitor.complaints == []


def test_a_passkey_is_added_and_logs_in_alone(visit: Any) -> None:
    cast = build_cast()
    visitor = visit()
    page = visitor.page
    visitor.plug_in()
    visitor.log_in(cast.owner.email)
    page.wait_for_url("**/o/**")
    page.goto("/accounts/passkeys/add/")
    shoot(page, "confirm-password")
    visitor.confirm()
    shoot(page, "passkey-add")
    visitor.add_passkey("Work laptop")
    page.get_by_text("Keep these codes now").wait_for()
    shoot(page, "recovery-codes")
    page.get_by_role("link", name="I have kept them").click()
    visitor.log_out()
    shoot(page, "login")
    page.get_by_role("button", name="Log in with a passkey").click()
    page.wait_for_url("**/o/**")
    page.goto("/accounts/security/")
    page.get_by_role("link", name="Rename Work laptop").wait_for()
    assert page.get_by_text("Logs in alone").is_visible()
    actions = set(
        AuditEvent.objects.filter(acting_user=cast.owner).values_list("action", flat=True)
    )
    assert {"passkey.added", "recovery_codes.created", "login.succeeded"} <= actions


def test_a_passkey_as_second_factor_is_asked_for(visit: Any) -> None:
    cast = build_cast()
    Organization.objects.filter(pk=cast.organization.pk).update(requires_mfa=True)
    visitor = visit()
    page = visitor.page
    visitor.plug_in()
    visitor.log_in(cast.owner.email)
    page.get_by_text("Acme requires a second factor").wait_for()
    shoot(page, "second-factor-required")
    visitor.add_passkey("Security key", alone=False)
    page.get_by_role("link", name="I have kept them").click()
    page.wait_for_url("**/o/*/")
    visitor.log_out()
    visitor.log_in(cast.owner.email)
    page.get_by_role("heading", name="Confirm that it is you").wait_for()
    shoot(page, "second-factor-passkey")
    page.get_by_role("button", name="Use a passkey").click()
    page.wait_for_url("**/o/*/")


def test_a_device_that_does_not_know_its_owner_does_not_log_in_alone(visit: Any) -> None:
    cast = build_cast()
    visitor = visit()
    page = visitor.page
    device = visitor.plug_in()
    visitor.log_in(cast.owner.email)
    page.wait_for_url("**/o/**")
    visitor.add_passkey("Found in a taxi")
    page.get_by_role("link", name="I have kept them").click()
    visitor.log_out()
    visitor.set_verified(device, False)
    page.get_by_role("button", name="Log in with a passkey").click()
    page.get_by_text("The passkey was not used").wait_for()
    shoot(page, "passkey-refused")
    assert "/accounts/login/" in page.url


def test_a_passkey_is_renamed_and_removed(visit: Any) -> None:
    cast = build_cast()
    visitor = visit()
    page = visitor.page
    visitor.plug_in()
    visitor.log_in(cast.owner.email)
    page.wait_for_url("**/o/**")
    visitor.add_passkey("Old name")
    page.get_by_role("link", name="I have kept them").click()
    page.goto("/accounts/security/")
    page.get_by_role("link", name="Rename Old name").click()
    page.get_by_label("Name").fill("New name")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("link", name="Remove New name").click()
    shoot(page, "passkey-remove")
    page.get_by_role("button", name="Remove").click()
    page.get_by_text("Log in with your fingerprint").wait_for()
    assert not Authenticator.objects.exists(), "the recovery codes went with it"
    visitor.log_out()
    page.get_by_role("button", name="Log in with a passkey").click()
    page.get_by_text("Incorrect code").or_(page.get_by_text("was not used")).wait_for()


def make_provider(cast: Cast) -> None:
    membership = Membership.objects.get(user=cast.owner, organization=cast.organization)
    provider = single_sign_on.create_identity_provider(
        cast.organization,
        "openid_connect",
        "acme",
        ProviderTerms(
            name="Acme log-in",
            settings={"issuer": "https://login.acme.test"},
            client_id="sluice",
            secret="s",
            domains=("acme.test",),
            is_enabled=True,
        ),
        actor=access.get_actor(membership),
    )
    single_sign_on.verify_domains(provider, ["acme.test"], acting_user=cast.staff)


@pytest.mark.parametrize(
    "look",
    [
        {"viewport": WIDE},
        {"viewport": NARROW},
        {"viewport": WIDE, "color_scheme": "dark"},
    ],
    ids=["wide", "narrow", "dark"],
)
def test_every_page_fits(visit: Any, look: dict[str, Any], request: Any) -> None:
    cast = build_cast()
    make_provider(cast)
    visitor = visit(**look)
    page = visitor.page
    name = request.node.callspec.id
    visitor.plug_in()
    page.goto("/accounts/single-sign-on/")
    shoot(page, f"{name}-sso")
    page.get_by_label("Work email").fill("nobody.test")
    page.get_by_role("button", name="Continue").click()
    page.get_by_text("There is no single sign-on").wait_for()
    shoot(page, f"{name}-sso-unknown")
    visitor.log_in(cast.owner.email)
    page.wait_for_url("**/o/**")
    visitor.add_passkey("Work laptop")
    page.get_by_role("link", name="I have kept them").click()
    sso = f"o/{cast.organization.public_id}/single-sign-on/"
    provider = cast.organization.identity_providers.get()
    for path in (
        "accounts/security/",
        "accounts/email/",
        "accounts/password/change/",
        "accounts/app/add/",
        "accounts/recovery-codes/",
        "accounts/recovery-codes/new/",
        "accounts/sessions/",
        sso,
        f"{sso}new/",
        f"{sso}new/?protocol=saml",
        f"{sso}{provider.public_id}/",
        f"{sso}{provider.public_id}/remove/",
    ):
        page.goto("/" + path)
        assert fits(page), path
        shown = path.replace(cast.organization.public_id, "o").replace(provider.public_id, "idp")
        shoot(page, f"{name}-" + shown.strip("/").replace("/", "-").replace("?protocol=", ""))


def test_log_in_pages_work_without_script(visit: Any) -> None:
    cast = build_cast()
    visitor = visit(java_script_enabled=False)
    visitor.log_in(cast.owner.email)
    visitor.page.wait_for_url("**/o/**")
    visitor.page.goto("/accounts/app/add/")
    visitor.confirm()
    visitor.page.get_by_role("heading", name="Set up an authenticator app").wait_for()
    assert not visitor.page.get_by_role("button", name="passkey").count()
