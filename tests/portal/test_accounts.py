"""Signing up, logging in and out, passwords; and what a stranger learns from them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.core import mail
from django.test import Client

from tenants.models import AuditEvent, Membership, Organization, Role, User
from tests.cast import PASSWORD, Cast, default_plan
from tests.portal.conftest import log_in

pytestmark = pytest.mark.django_db
NEW = {
    "email": "New.Person@Example.com",
    "organization": "Newcomers",
    "password1": "a long enough passphrase",
    "password2": "a long enough passphrase",
}


def sign_up(client: Client, **changes: str) -> Any:
    return client.post("/accounts/signup/", NEW | changes)


def test_sign_up_makes_an_owner_with_an_organization_and_logs_them_in() -> None:
    default_plan()
    client = Client()
    response = sign_up(client)
    assert response.status_code == 302, response.content.decode()
    user = User.objects.get(email="new.person@example.com")
    membership = Membership.objects.get(user=user)
    assert membership.role == Role.OWNER
    assert membership.organization.name == "Newcomers"
    assert membership.organization.projects.count() == 1
    assert AuditEvent.objects.get(action="organization.created").acting_user == user
    page = client.get("/", follow=True)
    assert page.redirect_chain[-1][0] == f"/o/{membership.organization.public_id}/"
    assert "Create an API key" in page.content.decode()


def test_sign_up_without_a_default_plan_leaves_no_user_behind() -> None:
    response = sign_up(Client())
    assert response.status_code == 400
    assert User.objects.count() == 0
    assert Organization.objects.count() == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email", "not an address"),
        ("organization", "  "),
        ("organization", "line\nbreak"),
        ("organization", "nul\x00"),
        ("organization", "x" * 121),
        ("password1", "short"),
        ("password2", "different entirely"),
    ],
)
def test_sign_up_refuses_and_says_where(field: str, value: str) -> None:
    default_plan()
    response = sign_up(Client(), **{field: value})
    assert response.status_code == 200
    assert response.context["form"].errors
    assert User.objects.count() == 0


def test_closed_sign_up_takes_nobody(settings: Any) -> None:
    settings.SIGNUP_OPEN = False
    default_plan()
    assert "Sign-up is closed" in sign_up(Client()).content.decode()
    assert User.objects.count() == 0


def test_a_known_address_and_a_new_one_sign_up_alike_when_addresses_are_confirmed(
    cast: Cast, settings: Any
) -> None:
    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"
    known = sign_up(Client(), email=cast.owner.email)
    new = sign_up(Client(), email="nobody@example.com")
    assert (known.status_code, known["Location"]) == (new.status_code, new["Location"])
    assert [message.to for message in mail.outbox] == [
        [cast.owner.email],
        ["nobody@example.com"],
    ]
    assert User.objects.filter(email=cast.owner.email).count() == 1


def test_log_in_and_out(cast: Cast) -> None:
    client = Client()
    answer = client.post("/accounts/login/", {"login": "OWNER@example.com", "password": PASSWORD})
    assert answer.status_code == 302
    assert client.get(f"/o/{cast.organization.public_id}/").status_code == 200
    assert client.post("/accounts/logout/")["Location"] == "/accounts/login/"
    assert client.get(f"/o/{cast.organization.public_id}/").status_code == 302


def test_wrong_password_and_unknown_address_answer_alike(cast: Cast) -> None:
    answers = []
    for address in (cast.owner.email, "nobody@example.com"):
        response = Client().post("/accounts/login/", {"login": address, "password": "wrong"})
        answers.append(re.sub(r'value="[^"]*"', "", response.content.decode()))
        assert response.status_code == 200
    assert answers[0] == answers[1]
    assert "form-errors" in answers[0]


def test_log_in_never_leaves_for_another_site(cast: Cast) -> None:
    answer = Client().post(
        "/accounts/login/?next=https://evil.example/",
        {
            "login": cast.owner.email,
            "password": PASSWORD,
            "next": "https://evil.example/",
        },
    )
    assert answer["Location"] == "/"


def test_password_reset_by_mail(cast: Cast) -> None:
    client = Client()
    answers = []
    for address in (cast.owner.email, "nobody@example.com"):
        response = client.post("/accounts/password/reset/", {"email": address})
        answers.append((response.status_code, response["Location"]))
    assert answers[0] == answers[1]
    link = re.search(r"http://testserver(/accounts/password/reset/key/\S+)", mail.outbox[0].body)
    assert link
    form = client.get(link[1], follow=True)
    assert "Choose a new password" in form.content.decode()
    new = {"password1": "quite another phrase", "password2": "quite another phrase"}
    done = client.post(form.redirect_chain[-1][0], new, follow=True)
    assert "Password changed" in done.content.decode()
    cast.owner.refresh_from_db()
    assert cast.owner.check_password("quite another phrase")
    assert "no longer works" in Client().get(link[1], follow=True).content.decode()


def test_password_change_asks_for_the_old_one(cast: Cast) -> None:
    client = log_in(cast.owner)
    new = {"password1": "quite another phrase", "password2": "quite another phrase"}
    refused = client.post("/accounts/password/change/", new | {"oldpassword": "wrong"})
    assert refused.context["form"].errors["oldpassword"]
    cast.owner.refresh_from_db()
    assert cast.owner.check_password(PASSWORD)
    client.post("/accounts/password/change/", new | {"oldpassword": PASSWORD})
    cast.owner.refresh_from_db()
    assert cast.owner.check_password("quite another phrase")


def test_inactive_account_cannot_log_in(cast: Cast) -> None:
    User.objects.filter(pk=cast.owner.pk).update(is_active=False)
    client = Client()
    client.post("/accounts/login/", {"login": cast.owner.email, "password": PASSWORD})
    assert client.get(f"/o/{cast.organization.public_id}/").status_code == 302


@pytest.mark.parametrize(
    "path",
    [
        "login/",
        "signup/",
        "password/reset/",
        "password/reset/done/",
        "password/reset/key/done/",
        "password/reset/key/1-wrong/",
        "confirm-email/",
        "confirm-email/wrong/",
        "inactive/",
    ],
)
def test_every_account_page_opens_in_our_design(path: str) -> None:
    page = Client().get("/accounts/" + path)
    assert page.status_code == 200
    assert "portal/layout.css" in page.content.decode()
