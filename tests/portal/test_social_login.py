"""Social log-in, by the operator's provider: against a real OpenID Connect server."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
from django.test import Client

from portal import social_login
from tenants.models import AuditEvent, IdentityProvider, Invitation, Membership, Role, User
from tests.cast import PASSWORD, Cast
from tests.portal.conftest import log_in
from tests.portal.identity import OidcServer
from tests.portal.test_invitations import invite
from tests.portal.test_single_sign_on import is_logged_in, make_person, make_provider
from tests.test_settings import SECURE, load_settings

pytestmark = pytest.mark.django_db
START = "/accounts/social/"
BUTTON = "Continue with Example"


@pytest.fixture
def idp(settings: Any) -> Iterator[OidcServer]:
    with OidcServer() as server:
        settings.SOCIAL_LOGIN_NAME = "Example"
        settings.SOCIAL_LOGIN_ISSUER = server.issuer
        settings.SOCIAL_LOGIN_CLIENT_ID = server.client_id
        settings.SOCIAL_LOGIN_CLIENT_SECRET = server.client_secret
        yield server


def begin(client: Client, **fields: str) -> str:
    page = client.post(START, fields).content.decode()
    found = re.search(r'http-equiv="refresh" content="0; url=([^"]+)"', page)
    assert found, page
    return html.unescape(found[1])


def come_by(client: Client, idp: OidcServer, email: str, **claims: Any) -> Any:
    claims = {"sub": email, "email": email, "email_verified": True} | claims
    return client.get(idp.authorize(begin(client), **claims))


def proven(user: User) -> User:
    EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=True)
    return user


def assert_refused(client: Client, response: Any, words: str) -> None:
    assert response.status_code == 403
    assert words in response.content.decode()
    assert not is_logged_in(client)
    assert not SocialAccount.objects.exists()
    refused = AuditEvent.objects.get(action="login.failed")
    assert refused.after["method"] == "social" and words in refused.after["reason"]


# --- Who comes in ---------------------------------------------------------------------


@pytest.mark.parametrize("verified", [True, "true"])
def test_a_stranger_gets_an_account_and_nothing_else(
    cast: Cast, idp: OidcServer, verified: Any
) -> None:
    client = Client()
    response = come_by(client, idp, "New@Home.test", name="New One", email_verified=verified)
    assert response["Location"] == "/"
    user = User.objects.get(email="new@home.test")
    assert (user.name, user.has_usable_password(), user.is_staff) == ("New One", False, False)
    assert EmailAddress.objects.get(user=user).verified
    assert client.session["_auth_user_id"] == str(user.pk)
    assert not Membership.objects.filter(user=user).exists()
    event = AuditEvent.objects.get(action="login.succeeded")
    assert (event.acting_user, event.after) == (user, {"method": "social"})
    assert SocialAccount.objects.get(user=user).provider == "social"
    assert not SocialApp.objects.exists() and not SocialToken.objects.exists()


def test_a_proven_account_is_linked_and_keeps_its_password(cast: Cast, idp: OidcServer) -> None:
    home = proven(make_person("me@home.test"))
    client = Client()
    come_by(client, idp, "me@home.test", sub="42")
    assert client.session["_auth_user_id"] == str(home.pk)
    home.refresh_from_db()
    assert home.check_password(PASSWORD)
    assert SocialAccount.objects.get(user=home).uid.endswith(":42")


def test_memberships_stay_what_they_were(cast: Cast, idp: OidcServer) -> None:
    proven(cast.viewer)
    client = Client()
    come_by(client, idp, cast.viewer.email)
    assert Membership.objects.get(user=cast.viewer).role == Role.VIEWER
    assert client.get(f"/o/{cast.organization.public_id}/").status_code == 200
    event = AuditEvent.objects.get(action="login.succeeded")
    assert event.organization == cast.organization


def test_a_squatter_keeps_no_way_in(cast: Cast, idp: OidcServer) -> None:
    """They signed up with the address and set a password and a factor, never proving it."""
    claimed = make_person("me@home.test")
    EmailAddress.objects.create(user=claimed, email=claimed.email, primary=True, verified=False)
    TOTP.activate(claimed, generate_totp_secret())
    SocialAccount.objects.create(user=claimed, provider="social", uid="squatter")
    client = Client()
    come_by(client, idp, "me@home.test")
    assert client.session["_auth_user_id"] == str(claimed.pk)
    claimed.refresh_from_db()
    assert not claimed.has_usable_password()
    assert not claimed.authenticator_set.exists()
    assert SocialAccount.objects.get(user=claimed).uid.endswith(":me@home.test")
    assert EmailAddress.objects.get(user=claimed).verified


def test_afterwards_the_subject_decides_and_not_the_address(cast: Cast, idp: OidcServer) -> None:
    come_by(Client(), idp, "me@home.test", sub="42")
    me = User.objects.get(email="me@home.test")
    proven(other := make_person("other@home.test"))
    EmailAddress.objects.filter(user=me).update(verified=False)
    client = Client()
    come_by(client, idp, "other@home.test", sub="42")
    assert client.session["_auth_user_id"] == str(me.pk)
    me.refresh_from_db()
    assert me.email == "me@home.test"
    assert not EmailAddress.objects.get(user=me).verified, "it told of another address"
    assert not SocialAccount.objects.filter(user=other).exists()


def test_the_same_subject_of_another_issuer_is_nobody(
    cast: Cast, idp: OidcServer, settings: Any
) -> None:
    come_by(Client(), idp, "me@home.test", sub="42")
    with OidcServer() as another:
        settings.SOCIAL_LOGIN_ISSUER = another.issuer
        client = Client()
        come_by(client, another, "thief@home.test", sub="42")
    assert client.session["_auth_user_id"] == str(User.objects.get(email="thief@home.test").pk)


# --- Who does not ---------------------------------------------------------------------


@pytest.mark.parametrize("verified", [False, "false", None, "", 1, "yes"])
def test_an_address_that_was_not_confirmed(cast: Cast, idp: OidcServer, verified: Any) -> None:
    client, before = Client(), User.objects.count()
    response = come_by(client, idp, cast.owner.email, email_verified=verified)
    assert_refused(client, response, "did not confirm your e-mail address")
    assert User.objects.count() == before
    cast.owner.refresh_from_db()
    assert cast.owner.check_password(PASSWORD)


def test_user_info_is_not_taken_for_the_signed_token(cast: Cast, idp: OidcServer) -> None:
    idp.userinfo = {"sub": "42", "email": cast.owner.email, "email_verified": True}
    client = Client()
    response = client.get(idp.authorize(begin(client), sub="42"))
    assert_refused(client, response, "did not confirm")
    assert "/userinfo" not in idp.asked


def test_staff_never_come_by_it(cast: Cast, idp: OidcServer) -> None:
    proven(cast.staff)
    client = Client()
    assert_refused(client, come_by(client, idp, cast.staff.email), "Staff log in")


def test_who_became_staff_comes_no_more(cast: Cast, idp: OidcServer) -> None:
    come_by(Client(), idp, "me@home.test", sub="42")
    User.objects.filter(email="me@home.test").update(is_staff=True)
    client = Client()
    assert come_by(client, idp, "me@home.test", sub="42").status_code == 403
    assert not is_logged_in(client)


def test_a_closed_account_stays_closed(cast: Cast, idp: OidcServer) -> None:
    proven(make_person("me@home.test", is_active=False))
    client = Client()
    assert_refused(client, come_by(client, idp, "me@home.test"), "This account is closed")


def test_an_address_that_another_account_proved(cast: Cast, idp: OidcServer) -> None:
    EmailAddress.objects.create(user=cast.stranger, email="me@home.test", verified=True)
    make_person("me@home.test")
    client = Client()
    assert_refused(client, come_by(client, idp, "me@home.test"), "Another account")


def test_a_forged_token_logs_nobody_in(cast: Cast, idp: OidcServer) -> None:
    client = Client()
    url = begin(client)
    idp.signing_key = "forged"
    back = idp.authorize(url, sub="42", email=cast.owner.email, email_verified=True)
    assert client.get(back).status_code == 401
    assert not is_logged_in(client)


def test_a_domain_with_its_own_provider_is_led_there(cast: Cast, idp: OidcServer) -> None:
    make_provider(cast, idp, is_enforced=True)
    hire = proven(make_person("hire@acme.test"))
    for email in (hire.email, "nobody@acme.test"):
        client = Client()
        response = come_by(client, idp, email)
        assert response["Location"].startswith("/accounts/single-sign-on/?name=")
        assert "single sign-on" in client.get(response["Location"]).content.decode()
        assert not is_logged_in(client)
    assert not SocialAccount.objects.exists()
    assert not User.objects.filter(email="nobody@acme.test").exists()


def test_enforcement_reaches_accounts_that_are_linked(cast: Cast, idp: OidcServer) -> None:
    provider = make_provider(cast, idp)
    come_by(Client(), idp, "hire@acme.test", sub="42")
    IdentityProvider.objects.filter(pk=provider.pk).update(is_enforced=True)
    client = Client()
    response = come_by(client, idp, "hire@home.test", sub="42")
    assert "name=hire%40acme.test" in response["Location"]
    assert not is_logged_in(client)


# --- Sign-up and invitations --------------------------------------------------------------


def test_where_sign_up_is_closed_nobody_new_comes_in(
    cast: Cast, idp: OidcServer, settings: Any
) -> None:
    settings.SIGNUP_OPEN = False
    client = Client()
    assert_refused(client, come_by(client, idp, "new@example.com"), "without an invitation")
    assert not User.objects.filter(email="new@example.com").exists()
    client = Client()
    come_by(client, idp, proven(cast.viewer).email)
    assert is_logged_in(client)


def test_the_invited_address_joins_although_sign_up_is_closed(
    cast: Cast, idp: OidcServer, settings: Any
) -> None:
    settings.SIGNUP_OPEN = False
    link = invite(log_in(cast.owner), cast)
    client = Client()
    client.get(link)
    assert BUTTON in client.get("/accounts/signup/").content.decode()
    assert come_by(client, idp, "other@example.com").status_code == 403
    assert come_by(client, idp, "new@example.com")["Location"] == "/"
    membership = Membership.objects.get(user__email="new@example.com")
    assert (membership.organization, membership.role) == (cast.organization, Role.DEVELOPER)
    assert Invitation.objects.get().accepted_by == membership.user
    assert not User.objects.filter(email="other@example.com").exists()


def test_an_invited_account_is_asked_before_it_joins(cast: Cast, idp: OidcServer) -> None:
    proven(cast.stranger)
    link = invite(log_in(cast.owner), cast, email=cast.stranger.email)
    client = Client()
    client.get(link)
    assert come_by(client, idp, cast.stranger.email)["Location"] == "/invitation/"
    assert not cast.organization.memberships.filter(user=cast.stranger).exists()
    client.post("/invitation/")
    assert cast.organization.memberships.filter(user=cast.stranger).exists()


# --- Second factors -------------------------------------------------------------------


def test_one_s_own_second_factor_is_asked_for(cast: Cast, idp: OidcServer) -> None:
    cast.organization.requires_mfa = True
    cast.organization.save()
    secret = generate_totp_secret()
    TOTP.activate(proven(cast.viewer), secret)
    client = Client()
    response = come_by(client, idp, cast.viewer.email, amr=["mfa"])
    assert response["Location"] == "/accounts/second-factor/"
    assert not is_logged_in(client)
    code = format_hotp_value(hotp_value(secret, next(yield_hotp_counters_from_time())))
    client.post("/accounts/second-factor/", {"code": code})
    assert is_logged_in(client)
    assert client.get(f"/o/{cast.organization.public_id}/").status_code == 200


def test_a_second_factor_of_the_provider_counts_for_nobody(cast: Cast, idp: OidcServer) -> None:
    cast.organization.requires_mfa = True
    cast.organization.save()
    client = Client()
    come_by(client, idp, proven(cast.viewer).email, amr=["pwd", "mfa"])
    assert is_logged_in(client)
    page = client.get(f"/o/{cast.organization.public_id}/")
    assert page["Location"].endswith("/second-factor/")


# --- The way there --------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/accounts/login/", "/accounts/signup/"])
def test_the_button_is_there_only_when_it_leads_somewhere(
    cast: Cast, idp: OidcServer, settings: Any, path: str
) -> None:
    assert f'action="{START}"' in (page := Client().get(path).content.decode()) and BUTTON in page
    settings.SOCIAL_LOGIN_NAME = ""
    page = Client().get(path).content.decode()
    assert START not in page and "Continue with" not in page


def test_where_it_is_off_its_addresses_do_not_exist(cast: Cast) -> None:
    assert Client().post(START).status_code == 404
    assert Client().get("/accounts/oidc/social/callback/").status_code == 404


def test_it_starts_by_a_form_of_ours_only(cast: Cast, idp: OidcServer) -> None:
    assert Client().get(START).status_code == 405
    assert Client(enforce_csrf_checks=True).post(START).status_code == 403
    assert log_in(cast.owner).post(START)["Location"] == "/"
    assert idp.asked == []


def test_a_provider_that_is_away_is_told_of(cast: Cast, idp: OidcServer, settings: Any) -> None:
    settings.OUTBOUND_PRIVATE_NETWORKS = []
    response = Client().post(START)
    assert "Example does not answer" in response.content.decode()
    assert idp.asked == []


def test_starting_is_limited(cast: Cast, idp: OidcServer) -> None:
    client = Client()
    statuses = [client.post(START).status_code for _ in range(31)]
    assert statuses == [200] * 30 + [429]


def test_next_stays_on_this_site(cast: Cast, idp: OidcServer) -> None:
    for asked, leads_to in (("/accounts/security/",) * 2, ("https://evil.test/", "/")):
        client = Client()
        url = begin(client, next=asked)
        back = idp.authorize(url, sub="42", email="me@home.test", email_verified=True)
        assert client.get(back)["Location"] == leads_to


def test_its_handle_is_no_organization_s(cast: Cast, idp: OidcServer) -> None:
    """A tenant whose provider is called so has a dot in its handle."""
    provider = make_provider(cast, idp)
    IdentityProvider.objects.filter(pk=provider.pk).update(slug=social_login.HANDLE)
    assert Client().get("/accounts/saml/social/metadata/").status_code == 404
    client = Client()
    come_by(client, idp, "hire@acme.test")
    assert not Membership.objects.filter(user__email="hire@acme.test").exists()


# --- Settings -----------------------------------------------------------------------------

WHOLE = {
    "SOCIAL_LOGIN_NAME": "Example",
    "SOCIAL_LOGIN_ISSUER": "https://id.example",
    "SOCIAL_LOGIN_CLIENT_ID": "sluice",
    "SOCIAL_LOGIN_CLIENT_SECRET": "hunter2",
}


@pytest.mark.parametrize("missing", sorted(WHOLE))
def test_a_part_of_the_settings_is_refused(tmp_path: Path, missing: str) -> None:
    loaded = load_settings(tmp_path, WHOLE | {missing: ""})
    assert loaded.returncode != 0
    last_line = loaded.stderr.strip().splitlines()[-1]
    assert f"set in part: {missing} is missing" in last_line
    assert "hunter2" not in loaded.stderr


def test_production_takes_the_whole_by_https_only(tmp_path: Path) -> None:
    assert load_settings(tmp_path, SECURE | WHOLE).returncode == 0
    by_http = SECURE | WHOLE | {"SOCIAL_LOGIN_ISSUER": "http://id.example"}
    assert "must start with https://" in load_settings(tmp_path, by_http).stderr


def test_the_secret_is_not_shown(idp: OidcServer) -> None:
    assert idp.client_secret not in repr(social_login.get_source())
