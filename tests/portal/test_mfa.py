"""Second factors: set up, asked for, taken once; organizations that require one."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from allauth.core import context
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, generate_totp_secret, hotp_value
from allauth.mfa.webauthn.internal.auth import get_server
from django.core import mail
from django.core.cache import cache
from django.test import Client
from redis.exceptions import RedisError

from portal import second_factor
from tenants.models import AuditEvent, Membership, Organization, User
from tests.cast import PASSWORD, Cast
from tests.portal.conftest import log_in

pytestmark = pytest.mark.django_db
PERIOD_S = 30


@pytest.fixture(autouse=True)
def noon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No period of a code ends within a test. (``time`` is one module: it stops everywhere.)"""
    at = 1_800_000_015.0
    monkeypatch.setattr("allauth.mfa.totp.internal.auth.time.time", lambda: at)
    cache.clear()
    yield
    cache.clear()


def code_of(secret: str, periods_later: int = 0) -> str:
    return format_hotp_value(hotp_value(secret, int(time.time()) // PERIOD_S + periods_later))


def by_password(user: User) -> tuple[Client, Any]:
    client = Client()
    form = {"login": user.email, "password": PASSWORD}
    return client, client.post("/accounts/login/", form)


def confirmed(user: User) -> Client:
    """Logged in, and the password given again, as changes of security ask."""
    client, _ = by_password(user)
    client.post("/accounts/confirm/password/", {"password": PASSWORD})
    return client


def enrol(user: User) -> str:
    secret: str = generate_totp_secret()
    TOTP.activate(user, secret)
    return secret


def is_logged_in(client: Client) -> bool:
    return "_auth_user_id" in client.session


# --- Set up -------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)  # allauth tells of it on commit
def test_set_up_by_scanning_and_a_code(cast: Cast) -> None:
    client = confirmed(cast.owner)
    page = client.get("/accounts/app/add/")
    secret = page.context["form"].secret
    assert 'src="data:image/svg+xml;base64,' in page.content.decode()
    assert secret in page.content.decode()
    wrong = client.post("/accounts/app/add/", {"code": "000000"})
    assert wrong.context["form"].errors
    assert not Authenticator.objects.exists()
    codes = client.post("/accounts/app/add/", {"code": code_of(secret)}, follow=True)
    shown = re.findall(r"<li>(\d{8})", codes.content.decode())
    assert len(shown) == 10
    again = client.get("/accounts/recovery-codes/").content.decode()
    assert not any(code in again for code in shown), "shown once"
    stored = str(list(Authenticator.objects.values_list("data", flat=True)))
    assert secret not in stored, "encrypted at rest"
    added = set(AuditEvent.objects.filter(acting_user=cast.owner).values_list("action", flat=True))
    assert {"second_factor.added", "recovery_codes.created"} <= added
    assert secret not in str(list(AuditEvent.objects.values_list("after", flat=True)))
    assert cast.owner.email in [message.to[0] for message in mail.outbox], "they are told"


@pytest.mark.parametrize("path", ["app/add/", "app/remove/", "passkeys/add/", "email/"])
def test_changes_ask_for_the_password_again(cast: Cast, path: str) -> None:
    enrol(cast.owner)
    client = log_in(cast.owner)
    form = {"action_add": "", "email": "new@example.com", "code": "1"}
    response = client.post("/accounts/" + path, form)
    assert response.status_code == 302
    assert response["Location"].startswith("/accounts/confirm/password/")
    assert Authenticator.objects.count() == 1


def test_it_can_be_removed_and_that_is_audited(cast: Cast) -> None:
    enrol(cast.owner)
    client = confirmed_with_factor(cast.owner)
    client.post("/accounts/app/remove/")
    assert not Authenticator.objects.exists()
    assert AuditEvent.objects.filter(action="second_factor.removed").count() == 1


def confirmed_with_factor(user: User) -> Client:
    """Logged in through both steps, then confirmed by password."""
    secret = second_factor.decrypt_factor(Authenticator.objects.get(user=user).data["secret"])
    client, _ = by_password(user)
    client.post("/accounts/second-factor/", {"code": code_of(secret)})
    client.post("/accounts/confirm/password/", {"password": PASSWORD})
    return client


# --- Log-in -------------------------------------------------------------------------------


def test_a_password_alone_is_not_enough(cast: Cast) -> None:
    secret = enrol(cast.owner)
    client, response = by_password(cast.owner)
    assert response["Location"] == "/accounts/second-factor/"
    assert not is_logged_in(client)
    assert client.get(f"/o/{cast.organization.public_id}/").status_code == 302
    refused = client.post("/accounts/second-factor/", {"code": "000000"})
    assert refused.context["form"].errors
    assert not is_logged_in(client)
    before = client.session.session_key
    client.post("/accounts/second-factor/", {"code": code_of(secret)})
    assert is_logged_in(client)
    assert client.session.session_key != before
    events = AuditEvent.objects.filter(organization=cast.organization)
    assert events.filter(action="second_factor.failed", acting_user=None).count() == 1
    assert events.filter(action="login.succeeded").count() == 1


@pytest.mark.parametrize("periods", [-1, 0, 1])
def test_a_clock_may_be_off_by_one_period(cast: Cast, periods: int) -> None:
    secret = enrol(cast.owner)
    client, _ = by_password(cast.owner)
    client.post("/accounts/second-factor/", {"code": code_of(secret, periods)})
    assert is_logged_in(client)


@pytest.mark.parametrize("periods", [-2, 2])
def test_but_not_by_more(cast: Cast, periods: int) -> None:
    secret = enrol(cast.owner)
    client, _ = by_password(cast.owner)
    client.post("/accounts/second-factor/", {"code": code_of(secret, periods)})
    assert not is_logged_in(client)


@pytest.mark.parametrize("periods", [0, -1], ids=["the same", "an older one"])
def test_a_replayed_code_is_refused(cast: Cast, periods: int) -> None:
    secret = enrol(cast.owner)
    first, _ = by_password(cast.owner)
    first.post("/accounts/second-factor/", {"code": code_of(secret)})
    assert is_logged_in(first)
    cache.clear()  # allauth's own memory of codes, which a restart of Redis loses
    thief, _ = by_password(cast.owner)
    response = thief.post("/accounts/second-factor/", {"code": code_of(secret, periods)})
    assert response.context["form"].errors["code"]
    assert not is_logged_in(thief)
    thief.post("/accounts/second-factor/", {"code": code_of(secret, 1)})
    assert is_logged_in(thief), "the next code is new"


def test_a_recovery_code_works_once(cast: Cast) -> None:
    client = confirmed(cast.owner)
    secret = client.get("/accounts/app/add/").context["form"].secret
    page = client.post("/accounts/app/add/", {"code": code_of(secret)}, follow=True)
    code = re.findall(r"<li>(\d{8})", page.content.decode())[3]
    first, _ = by_password(cast.owner)
    first.post("/accounts/second-factor/", {"code": code})
    assert is_logged_in(first)
    second, _ = by_password(cast.owner)
    second.post("/accounts/second-factor/", {"code": code})
    assert not is_logged_in(second)
    assert "9 left" in first.get("/accounts/security/").content.decode()


def test_guessing_is_limited_for_the_person_from_any_address(cast: Cast) -> None:
    enrol(cast.owner)
    statuses = []
    for number in range(6):
        client, _ = by_password(cast.owner)
        statuses.append(
            client.post(
                "/accounts/second-factor/", {"code": "000000"}, REMOTE_ADDR=f"203.0.113.{number}"
            ).status_code
        )
    assert statuses == [200] * 5 + [429]


def test_the_second_step_needs_the_first(cast: Cast) -> None:
    enrol(cast.owner)
    client = Client()
    assert client.get("/accounts/second-factor/")["Location"] == "/accounts/login/"
    assert client.post("/accounts/second-factor/", {"code": "1"})["Location"] == "/accounts/login/"


def test_a_reset_password_does_not_skip_it(cast: Cast) -> None:
    enrol(cast.owner)
    client = Client()
    client.post("/accounts/password/reset/", {"email": cast.owner.email})
    link = re.search(r"http://testserver(/accounts/password/reset/key/\S+)", mail.outbox[0].body)
    assert link
    form = client.get(link[1], follow=True)
    new = {"password1": "quite another phrase", "password2": "quite another phrase"}
    client.post(form.redirect_chain[-1][0], new, follow=True)
    assert not is_logged_in(client)
    login = {"login": cast.owner.email, "password": "quite another phrase"}
    assert client.post("/accounts/login/", login)["Location"] == "/accounts/second-factor/"


# --- Organizations that require one ---------------------------------------------------------


@pytest.fixture
def strict(cast: Cast) -> Organization:
    Organization.objects.filter(pk=cast.organization.pk).update(requires_mfa=True)
    cast.organization.refresh_from_db()
    return cast.organization


@pytest.mark.parametrize("page", ["", "keys/", "keys/new/", "usage/", "settings/"])
def test_its_pages_are_closed_until_a_factor_was_shown(
    cast: Cast, strict: Organization, page: str
) -> None:
    client, _ = by_password(cast.owner)
    path = f"/o/{strict.public_id}/{page}"
    explained = f"/o/{strict.public_id}/second-factor/"
    assert client.get(path)["Location"] == explained
    response = client.post(path, {"name": "Changed"})
    assert response.status_code == 405 or response["Location"] == explained
    strict.refresh_from_db()
    assert strict.name == "Acme", "nothing changed"
    why = client.get(explained)
    assert why.status_code == 403
    assert "requires a second factor" in why.content.decode()
    assert "/accounts/app/add/" in why.content.decode()


def test_setting_one_up_opens_them(cast: Cast, strict: Organization) -> None:
    client = confirmed(cast.owner)
    secret = client.get("/accounts/app/add/").context["form"].secret
    client.post("/accounts/app/add/", {"code": code_of(secret)})
    assert client.get(f"/o/{strict.public_id}/").status_code == 200
    explained = client.get(f"/o/{strict.public_id}/second-factor/")
    assert explained["Location"] == f"/o/{strict.public_id}/"


def test_logging_in_with_one_opens_them(cast: Cast, strict: Organization) -> None:
    secret = enrol(cast.owner)
    client, _ = by_password(cast.owner)
    client.post("/accounts/second-factor/", {"code": code_of(secret)})
    assert client.get(f"/o/{strict.public_id}/").status_code == 200


def test_a_session_from_before_is_asked_for_the_factor(cast: Cast, strict: Organization) -> None:
    client, _ = by_password(cast.owner)
    secret = enrol(cast.owner)
    why = client.get(f"/o/{strict.public_id}/second-factor/").content.decode()
    assert "/accounts/confirm/code/?next=" in why
    path = f"/accounts/confirm/code/?next=/o/{strict.public_id}/"
    done = client.post(path, {"code": code_of(secret), "next": f"/o/{strict.public_id}/"})
    assert done["Location"] == f"/o/{strict.public_id}/"
    assert client.get(done["Location"]).status_code == 200


def test_other_organizations_and_keys_are_not_affected(cast: Cast, strict: Organization) -> None:
    Membership.objects.create(organization=cast.other_organization, user=cast.owner, role="viewer")
    client, _ = by_password(cast.owner)
    assert client.get(f"/o/{cast.other_organization.public_id}/").status_code == 200
    assert cast.owner_api_key.is_live


def test_a_stranger_does_not_learn_that_it_is_required(cast: Cast, strict: Organization) -> None:
    for path in (f"/o/{strict.public_id}/", f"/o/{strict.public_id}/second-factor/"):
        assert log_in(cast.stranger).get(path).status_code == 404


# --- Passkeys: whose they are ----------------------------------------------------------------


def test_in_production_passkeys_belong_to_the_public_address(settings: Any, rf: Any) -> None:
    settings.SLUICE_ENV = "production"
    settings.SLUICE_URL = "https://sluice.example"
    settings.MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = False
    with context.request_context(rf.get("/", headers={"host": "another.example"})):
        server = get_server()
    assert server.rp.id == "sluice.example"
    assert server._verify("https://sluice.example")
    for origin in ("http://sluice.example", "https://evil.example", "https://sluice.example.evil"):
        assert not server._verify(origin), origin


def test_codes_are_not_taken_while_redis_is_down(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = enrol(cast.owner)
    client, _ = by_password(cast.owner)

    def away(*args: Any, **kwargs: Any) -> None:
        raise RedisError("away")

    monkeypatch.setattr("allauth.mfa.totp.internal.auth.cache.add", away)
    page = client.post("/accounts/second-factor/", {"code": code_of(secret)})
    assert "cannot be checked at the moment" in page.content.decode()
    assert not is_logged_in(client)
