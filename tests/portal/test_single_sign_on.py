"""Logging in by an organization's own provider: against a real OpenID Connect server."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.totp.internal.auth import (
    TOTP,
    format_hotp_value,
    generate_totp_secret,
    hotp_value,
    yield_hotp_counters_from_time,
)
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from django.core import mail
from django.test import Client

from tenants import access
from tenants.actions import single_sign_on
from tenants.actions.single_sign_on import ProviderTerms
from tenants.identity_providers import handle_of
from tenants.models import AuditEvent, IdentityProvider, Membership, Role, User
from tests.cast import PASSWORD, Cast, make_user
from tests.portal.conftest import without_tokens
from tests.portal.identity import OidcServer

pytestmark = pytest.mark.django_db
START = "/accounts/single-sign-on/"


@pytest.fixture
def idp() -> Iterator[OidcServer]:
    with OidcServer() as server:
        yield server


def make_provider(cast: Cast, idp: OidcServer, **changes: Any) -> IdentityProvider:
    """Acme's provider, of the verified domain acme.test."""
    membership = Membership.objects.get(user=cast.owner, organization=cast.organization)
    terms = {
        "name": "Acme log-in",
        "settings": {"issuer": idp.issuer},
        "client_id": idp.client_id,
        "secret": idp.client_secret,
        "domains": ("acme.test",),
        "is_enabled": True,
    }
    domains = changes.pop("verified", ["acme.test"])
    provider = single_sign_on.create_identity_provider(
        cast.organization,
        "openid_connect",
        "acme",
        ProviderTerms(**(terms | changes)),
        actor=access.get_actor(membership),
    )
    return single_sign_on.verify_domains(provider, domains, acting_user=cast.staff)


def make_person(email: str, **fields: Any) -> User:
    """Somebody with the cast's password and this address."""
    user = make_user("someone", **fields)
    user.email = email
    user.save()
    return user


def begin(client: Client, name: str = "acme", **fields: str) -> str:
    """The provider's address that the log-in page leads to."""
    page = client.post(START, {"name": name, **fields}).content.decode()
    found = re.search(r'http-equiv="refresh" content="0; url=([^"]+)"', page)
    assert found, page
    return html.unescape(found[1])


def come_by(client: Client, idp: OidcServer, email: str, **claims: Any) -> Any:
    url = begin(client)
    return client.get(idp.authorize(url, **({"sub": email, "email": email} | claims)))


def is_logged_in(client: Client) -> bool:
    return "_auth_user_id" in client.session


def test_a_stranger_of_the_verified_domain_becomes_a_member(cast: Cast, idp: OidcServer) -> None:
    provider = make_provider(cast, idp)
    client = Client()
    response = come_by(client, idp, "New.Hire@acme.test", name="New Hire")
    assert response["Location"] == "/"
    user = User.objects.get(email="new.hire@acme.test")
    assert (user.name, user.has_usable_password()) == ("New Hire", False)
    membership = Membership.objects.get(user=user)
    assert (membership.organization, membership.role) == (cast.organization, Role.DEVELOPER)
    assert client.get(f"/o/{cast.organization.public_id}/").status_code == 200
    actions = set(AuditEvent.objects.filter(acting_user=user).values_list("action", flat=True))
    assert actions == {"member.added", "login.succeeded"}
    linked = SocialAccount.objects.get(user=user)
    assert linked.provider == handle_of(provider)
    assert set(linked.extra_data) == {"amr", "email_denied"}
    assert not SocialApp.objects.exists() and not SocialToken.objects.exists()


def test_the_second_time_they_are_the_same_person(cast: Cast, idp: OidcServer) -> None:
    make_provider(cast, idp)
    for _ in range(2):
        come_by(Client(), idp, "hire@acme.test", sub="42")
    assert User.objects.filter(email="hire@acme.test").count() == 1
    assert AuditEvent.objects.filter(action="member.added").count() == 1


def test_nobody_gets_more_than_the_default_role(cast: Cast, idp: OidcServer) -> None:
    make_provider(cast, idp, default_role=Role.VIEWER)
    come_by(Client(), idp, "hire@acme.test", role="owner", groups=["admins"])
    assert Membership.objects.get(user__email="hire@acme.test").role == Role.VIEWER


def test_a_member_keeps_their_role(cast: Cast, idp: OidcServer) -> None:
    make_provider(cast, idp)
    admin = make_person("boss@acme.test")
    Membership.objects.create(organization=cast.organization, user=admin, role=Role.ADMIN)
    client = Client()
    come_by(client, idp, "boss@acme.test")
    assert client.session["_auth_user_id"] == str(admin.pk)
    assert Membership.objects.get(user=admin).role == Role.ADMIN


@pytest.mark.parametrize("verified", [[], ["other.test"]])
def test_an_unverified_domain_gets_nothing(
    cast: Cast, idp: OidcServer, verified: list[str]
) -> None:
    make_provider(cast, idp, verified=verified)
    client = Client()
    before = User.objects.count()
    response = come_by(client, idp, "hire@acme.test", email_verified=True)
    assert response.status_code == 403
    assert "not verified for this organization" in response.content.decode()
    assert not is_logged_in(client)
    assert User.objects.count() == before
    assert not SocialAccount.objects.exists()
    refused = AuditEvent.objects.get(action="login.failed")
    assert refused.organization == cast.organization


def test_a_provider_cannot_claim_an_account_outside_of_its_domain(
    cast: Cast, idp: OidcServer
) -> None:
    """The stranger owns Other; Acme's provider says that it is them."""
    make_provider(cast, idp)
    client = Client()
    assert come_by(client, idp, cast.stranger.email, email_verified=True).status_code == 403
    assert not is_logged_in(client)


def test_staff_never_come_by_a_provider(cast: Cast, idp: OidcServer) -> None:
    make_provider(cast, idp, verified=["acme.test", "example.com"])
    client = Client()
    response = come_by(client, idp, cast.staff.email)
    assert response.status_code == 403
    assert not is_logged_in(client)
    assert not SocialAccount.objects.exists()


@pytest.mark.parametrize("denied", [False, "false"])
def test_an_address_that_the_provider_did_not_confirm(
    cast: Cast, idp: OidcServer, denied: Any
) -> None:
    make_provider(cast, idp)
    client = Client()
    assert come_by(client, idp, "ceo@acme.test", email_verified=denied).status_code == 403
    assert not is_logged_in(client)


def test_a_linked_account_that_moved_away_is_out_of_reach(cast: Cast, idp: OidcServer) -> None:
    make_provider(cast, idp)
    come_by(Client(), idp, "hire@acme.test", sub="42")
    User.objects.filter(email="hire@acme.test").update(email="hire@home.test")
    client = Client()
    assert come_by(client, idp, "hire@acme.test", sub="42").status_code == 403
    assert not is_logged_in(client)


def test_a_slug_taken_over_inherits_nobody(cast: Cast, idp: OidcServer) -> None:
    """Acme's provider goes; a stranger makes one of the same name, for the same subject."""
    provider = make_provider(cast, idp)
    come_by(Client(), idp, "hire@acme.test", sub="42")
    victim = User.objects.get(email="hire@acme.test")
    provider.delete()
    membership = Membership.objects.get(user=cast.stranger)
    single_sign_on.create_identity_provider(
        cast.other_organization,
        "openid_connect",
        "acme",
        ProviderTerms(
            name="Evil",
            settings={"issuer": idp.issuer},
            client_id=idp.client_id,
            secret=idp.client_secret,
            is_enabled=True,
        ),
        actor=access.get_actor(membership),
    )
    client = Client()
    assert come_by(client, idp, "hire@acme.test", sub="42").status_code == 403
    assert client.session.get("_auth_user_id") != str(victim.pk)


def test_a_claimed_address_leaves_its_claimer_no_way_in(cast: Cast, idp: OidcServer) -> None:
    """Somebody signed up with it and set a password and a second factor, never proving it."""
    make_provider(cast, idp)
    claimed = make_person("ceo@acme.test")
    EmailAddress.objects.create(user=claimed, email=claimed.email, primary=True, verified=False)
    TOTP.activate(claimed, generate_totp_secret())
    client = Client()
    come_by(client, idp, "ceo@acme.test")
    assert client.session["_auth_user_id"] == str(claimed.pk)
    claimed.refresh_from_db()
    assert not claimed.has_usable_password()
    assert not claimed.authenticator_set.exists()
    assert EmailAddress.objects.get(user=claimed).verified


def test_a_waiting_address_of_another_account_is_not_that_account(
    cast: Cast, idp: OidcServer
) -> None:
    make_provider(cast, idp)
    EmailAddress.objects.create(user=cast.stranger, email="hire@acme.test", verified=False)
    client = Client()
    come_by(client, idp, "hire@acme.test")
    assert client.session["_auth_user_id"] != str(cast.stranger.pk)
    assert User.objects.filter(email="hire@acme.test").exists()


# --- The protocol ---------------------------------------------------------------------


def forged_key(idp: OidcServer) -> None:
    idp.signing_key = "forged"


def other_audience(idp: OidcServer) -> None:
    idp.claims_changed = {"aud": "another-client"}


def other_issuer(idp: OidcServer) -> None:
    idp.claims_changed = {"iss": "https://evil.test"}


def expired(idp: OidcServer) -> None:
    idp.claims_changed = {"exp": 1, "iat": 0}


def no_subject(idp: OidcServer) -> None:
    idp.claims_changed = {"sub": ""}


def foreign_discovery(idp: OidcServer) -> None:
    idp.discovery_changed = {"issuer": "https://evil.test"}


def no_keys(idp: OidcServer) -> None:
    idp.discovery_changed = {"jwks_uri": f"{idp.issuer}/absent"}


@pytest.mark.parametrize(
    "break_it",
    [
        forged_key, other_audience, other_issuer, expired, no_subject, foreign_discovery, no_keys
    ],
)  # fmt: skip
def test_a_broken_answer_logs_nobody_in(cast: Cast, idp: OidcServer, break_it: Any) -> None:
    make_provider(cast, idp)
    client = Client()
    back = idp.authorize(begin(client), sub="42", email="hire@acme.test")
    break_it(idp)
    response = client.get(back)
    assert response.status_code in {401, 403}, response.content.decode()
    assert "portal/layout.css" in response.content.decode()
    assert not is_logged_in(client)
    assert not User.objects.filter(email="hire@acme.test").exists()


def test_user_info_of_somebody_else_is_refused(cast: Cast, idp: OidcServer) -> None:
    make_provider(cast, idp)
    idp.userinfo = {"sub": "43", "email": "ceo@acme.test"}
    client = Client()
    response = client.get(idp.authorize(begin(client), sub="42"))
    assert response.status_code == 401
    idp.userinfo = {"sub": "42", "email": "hire@acme.test"}
    client.get(idp.authorize(begin(client), sub="42"))
    assert client.session["_auth_user_id"] == str(User.objects.get(email="hire@acme.test").pk)


def test_an_answer_works_once_and_for_its_own_browser(cast: Cast, idp: OidcServer) -> None:
    make_provider(cast, idp)
    client, other = Client(), Client()
    back = idp.authorize(begin(client), sub="42", email="hire@acme.test")
    assert other.get(back).status_code == 401
    assert not is_logged_in(other)
    assert client.get(back)["Location"] == "/"
    client.logout()
    assert client.get(back).status_code == 401
    assert not is_logged_in(client)


def test_the_session_is_new_after_the_log_in(cast: Cast, idp: OidcServer) -> None:
    make_provider(cast, idp)
    client = Client()
    url = begin(client)
    fixed = client.session.session_key
    client.get(idp.authorize(url, sub="42", email="hire@acme.test"))
    assert is_logged_in(client)
    assert client.session.session_key != fixed


def test_metadata_that_redirects_inside_is_not_followed(cast: Cast, idp: OidcServer) -> None:
    make_provider(cast, idp)
    idp.redirects_to = f"{idp.issuer}/internal"
    page = Client().post(START, {"name": "acme"})
    assert "does not answer" in page.content.decode()
    assert idp.asked == ["/.well-known/openid-configuration"]


def test_private_addresses_are_not_reached_unless_a_setting_names_them(
    cast: Cast, idp: OidcServer, settings: Any
) -> None:
    make_provider(cast, idp)
    settings.OUTBOUND_PRIVATE_NETWORKS = []
    page = Client().post(START, {"name": "acme"})
    assert "does not answer" in page.content.decode()
    assert idp.asked == []


def test_next_stays_on_this_site(cast: Cast, idp: OidcServer) -> None:
    make_provider(cast, idp)
    inside = f"/o/{cast.organization.public_id}/usage/"
    for asked, leads_to in ((inside, inside), ("https://evil.test/", "/")):
        client = Client()
        url = begin(client, next=asked)
        back = idp.authorize(url, sub="42", email="hire@acme.test")
        assert client.get(back)["Location"] == leads_to


# --- What a stranger learns ---------------------------------------------------------------


def test_unknown_disabled_and_unverified_answer_alike(cast: Cast, idp: OidcServer) -> None:
    make_provider(cast, idp, is_enabled=False)
    answers = []
    for name in ("acme", "nobody", "hire@acme.test", "x@unknown.test", "unknown.test"):
        page = Client().post(START, {"name": name})
        answers.append(without_tokens(page.content).replace(name, "NAME"))
    assert len(set(answers)) == 1
    assert "There is no single sign-on under this name" in answers[0]


@pytest.mark.parametrize("path", ["oidc/{}/callback/", "saml/{}/metadata/", "saml/{}/acs/finish/"])
def test_addresses_of_unknown_providers_do_not_exist(cast: Cast, path: str) -> None:
    for handle in ("acme", "acme.idp_0000000000000000", ".", "acme."):
        assert Client().get("/accounts/" + path.format(handle)).status_code == 404


# --- Single sign-on only ---------------------------------------------------------------


@pytest.fixture
def enforced(cast: Cast, idp: OidcServer) -> IdentityProvider:
    return make_provider(cast, idp, is_enforced=True)


def log_in(email: str, password: str = PASSWORD) -> tuple[Client, Any]:
    client = Client()
    return client, client.post("/accounts/login/", {"login": email, "password": password})


def test_a_password_is_refused_and_nothing_is_told(cast: Cast, enforced: IdentityProvider) -> None:
    make_person("hire@acme.test")
    make_person("root@acme.test", is_staff=True)
    answers = set()
    for email, password in (
        ("hire@acme.test", PASSWORD),
        ("hire@acme.test", "wrong"),
        ("root@acme.test", "wrong"),
        ("nobody@acme.test", "wrong"),
    ):
        client, response = log_in(email, password)
        assert not is_logged_in(client)
        answers.add(without_tokens(response.content).replace(email, "EMAIL"))
    assert len(answers) == 1
    assert "single sign-on" in answers.pop()


def test_staff_are_exempt(cast: Cast, enforced: IdentityProvider) -> None:
    make_person("root@acme.test", is_staff=True)
    client, _ = log_in("root@acme.test")
    assert is_logged_in(client)


def test_another_address_of_the_same_person_is_no_way_around(
    cast: Cast, enforced: IdentityProvider
) -> None:
    user = make_person("hire@acme.test")
    EmailAddress.objects.create(user=user, email="hire@home.test", verified=True)
    client, response = log_in("hire@home.test")
    assert response["Location"] == START
    assert not is_logged_in(client)


def test_a_reset_mails_the_way_instead_of_a_link(cast: Cast, enforced: IdentityProvider) -> None:
    make_person("hire@acme.test")
    make_person("root@acme.test", is_staff=True)
    answers = set()
    for email in ("hire@acme.test", "root@acme.test", "nobody@acme.test"):
        response = Client().post("/accounts/password/reset/", {"email": email})
        answers.add((response.status_code, response["Location"]))
    assert len(answers) == 1
    to_hire, to_staff, _ = (message.body for message in mail.outbox)
    assert (
        "http://testserver/accounts/single-sign-on/?" + urlencode({"name": "hire@acme.test"})
        in to_hire
    )
    assert "/password/reset/key/" not in to_hire
    assert "/password/reset/key/" in to_staff


def test_nobody_signs_up_with_such_an_address(cast: Cast, enforced: IdentityProvider) -> None:
    response = Client().post(
        "/accounts/signup/",
        {
            "email": "new@acme.test",
            "organization": "New",
            "password1": "a long enough passphrase",
            "password2": "a long enough passphrase",
        },
    )
    assert "single sign-on" in str(response.context["form"].errors)
    assert not User.objects.filter(email="new@acme.test").exists()


def test_no_second_way_in_can_be_made(
    cast: Cast, idp: OidcServer, enforced: IdentityProvider
) -> None:
    client = Client()
    come_by(client, idp, "hire@acme.test")
    for path, form in (
        ("email/", {"action_add": "", "email": "hire@home.test"}),
        (
            "password/set/",
            {"password1": "a long enough phrase", "password2": "a long enough phrase"},
        ),
    ):
        response = client.post("/accounts/" + path, form)
        assert response["Location"] == "/accounts/security/", path
    user = User.objects.get(email="hire@acme.test")
    assert not user.has_usable_password()
    assert not EmailAddress.objects.filter(email="hire@home.test").exists()


def test_single_sign_on_works_where_addresses_must_be_confirmed(
    cast: Cast, idp: OidcServer, enforced: IdentityProvider, settings: Any
) -> None:
    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"
    settings.SIGNUP_OPEN = False
    client = Client()
    come_by(client, idp, "hire@acme.test")
    assert is_logged_in(client)
    assert EmailAddress.objects.get(email="hire@acme.test").verified


@pytest.mark.parametrize(
    ("methods", "opens"), [(["pwd", "mfa"], True), (["pwd"], False), (None, False)]
)
def test_a_second_factor_that_the_provider_asked_for_counts_here_only(
    cast: Cast, idp: OidcServer, methods: Any, opens: bool
) -> None:
    make_provider(cast, idp)
    for organization in (cast.organization, cast.other_organization):
        organization.requires_mfa = True
        organization.save()
    client = Client()
    come_by(client, idp, "hire@acme.test", **({"amr": methods} if methods else {}))
    user = User.objects.get(email="hire@acme.test")
    Membership.objects.create(organization=cast.other_organization, user=user, role=Role.VIEWER)
    status = client.get(f"/o/{cast.organization.public_id}/").status_code
    assert status == (200 if opens else 302)
    assert client.get(f"/o/{cast.other_organization.public_id}/").status_code == 302


def test_one_s_own_second_factor_is_asked_for_on_the_way(cast: Cast, idp: OidcServer) -> None:
    """The pending log-in finds its provider again, though client ids are not unique."""
    make_provider(cast, idp)
    hire = make_person("hire@acme.test")
    EmailAddress.objects.create(user=hire, email=hire.email, primary=True, verified=True)
    secret = generate_totp_secret()
    TOTP.activate(hire, secret)
    client = Client()
    assert come_by(client, idp, "hire@acme.test")["Location"] == "/accounts/second-factor/"
    assert not is_logged_in(client)
    assert not Membership.objects.filter(user=hire).exists(), "not before the log-in is complete"
    code = format_hotp_value(hotp_value(secret, next(yield_hotp_counters_from_time())))
    client.post("/accounts/second-factor/", {"code": code})
    assert is_logged_in(client)
    assert Membership.objects.get(user=hire).organization == cast.organization
