"""Invitations on the pages: sent, sent again, withdrawn; joining by a link."""

from __future__ import annotations

import logging
import re
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from tenants import actions
from tenants.mail import invitation_link
from tenants.models import AuditEvent, Invitation, Job, Organization, ProjectMembership, User
from tests.cast import PASSWORD, Cast, make_user
from tests.portal.conftest import deliver_invitations, log_in
from tests.portal.test_members import actor, people, role_of, url

pytestmark = pytest.mark.django_db
NEW = {"password1": "a long enough passphrase", "password2": "a long enough passphrase"}


def invite(client: Client, cast: Cast, **changes: Any) -> str:
    """Send an invitation by the page; the path of its link."""
    mail.outbox.clear()
    form = {"email": "new@example.com", "role": "developer"} | changes
    if "projects" in form:
        form["project_role"] = form.get("project_role", "member")
    else:
        form["project_role"] = "member"
    answer = client.post(url(cast, "members/invite/"), form)
    assert answer.status_code == 302, answer.context and answer.context["form"].errors
    deliver_invitations()
    return link_in(mail.outbox[-1].body)


def link_in(text: str) -> str:
    found = re.search(r"http://127\.0\.0\.1:8000(/invitations/\w+/)", text)
    assert found, text
    return found[1]


def test_an_invited_stranger_signs_up_and_is_in(cast: Cast, settings: Any) -> None:
    settings.SIGNUP_OPEN = False
    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"
    link = invite(log_in(cast.owner), cast, projects=[cast.project.public_id])
    assert mail.outbox[-1].to == ["new@example.com"]
    client = Client()
    page = client.get(link, follow=True)
    assert page.redirect_chain == [("/invitation/", 302)]
    html = page.content.decode()
    assert "Join Acme" in html
    assert cast.owner.email not in html
    form = client.get("/accounts/signup/")
    assert "new@example.com" in form.content.decode()
    assert "organization" not in form.context["form"].fields
    count = Organization.objects.count()
    joined = client.post("/accounts/signup/", NEW | {"email": "other@example.com"}, follow=True)
    assert joined.redirect_chain[-1][0] == url(cast, "")
    user = User.objects.get(email="new@example.com")
    assert role_of(cast, user) == "developer"
    assert ProjectMembership.objects.get(user=user).role == "member"
    assert user.emailaddress_set.get().verified
    assert Organization.objects.count() == count
    assert not User.objects.filter(email="other@example.com").exists()
    assert AuditEvent.objects.get(action="invite.accepted").acting_user == user


def test_an_invited_person_with_an_account_logs_in_and_joins(cast: Cast) -> None:
    link = invite(log_in(cast.owner), cast, email=cast.stranger.email.upper())
    client = Client()
    client.get(link)
    log_in_form = {"login": cast.stranger.email, "password": PASSWORD, "next": "/invitation/"}
    page = client.post("/accounts/login/", log_in_form, follow=True)
    assert page.redirect_chain[-1][0] == "/invitation/"
    assert "Join Acme" in page.content.decode()
    assert not cast.organization.memberships.filter(user=cast.stranger).exists()
    assert client.post("/invitation/")["Location"] == url(cast, "")
    assert role_of(cast, cast.stranger) == "developer"
    assert client.post("/invitation/").status_code == 410


def test_the_wrong_account_is_told_and_led_on(cast: Cast) -> None:
    link = invite(log_in(cast.owner), cast)
    client = log_in(cast.stranger)
    page = client.get(link, follow=True).content.decode()
    assert "Log out and go on" in page and "new@example.com" in page
    assert client.post("/invitation/").status_code == 200
    assert not cast.organization.memberships.filter(user=cast.stranger).exists()
    page = client.post("/invitation/switch/", follow=True).content.decode()
    assert "Create an account" in page
    assert "_auth_user_id" not in client.session


def test_dead_links_all_look_alike(cast: Cast) -> None:
    owner = log_in(cast.owner)
    used, revoked, expired, replaced = (
        invite(owner, cast, email=f"{name}@example.com") for name in ("a", "b", "c", "d")
    )
    make_user("a")
    someone = log_in(User.objects.get(email="a@example.com"))
    someone.get(used)
    someone.post("/invitation/")
    by_email = {each.email: each for each in Invitation.objects.all()}
    page = url(cast, f"invitations/{by_email['b@example.com'].public_id}/revoke/")
    assert owner.post(page).status_code == 302
    Invitation.objects.filter(email="c@example.com").update(expires_at=timezone.now())
    page = url(cast, f"invitations/{by_email['d@example.com'].public_id}/resend/")
    assert owner.post(page).status_code == 302
    deliver_invitations()
    fresh = link_in(mail.outbox[-1].body)
    answers = set()
    for link in (
        used,
        revoked,
        expired,
        replaced,
        "/invitations/nonsense/",
        f"/invitations/{'x' * 4000}/",
    ):
        answer = Client().get(link, follow=True)
        assert answer.status_code == 410, link
        answers.add((answer.content, str(answer.redirect_chain)))
    assert len(answers) == 1
    assert Client().get("/invitation/").status_code == 410
    assert Client().get(fresh, follow=True).status_code == 200


def test_the_links_secret_stays_out_of_logs_referers_and_sessions(
    cast: Cast, caplog: pytest.LogCaptureFixture
) -> None:
    link = invite(log_in(cast.owner), cast)
    token = link.split("/")[2]
    client = Client()
    with caplog.at_level(logging.DEBUG), CaptureQueriesContext(connection) as queries:
        first = client.get(link)
        second = client.get("/invitation/")
        for _ in range(70):  # until the limit
            last = client.get(link)
    assert last.status_code == 429
    for answer in (first, second):
        assert answer["Referrer-Policy"] == "no-referrer"
        assert "no-store" in answer["Cache-Control"]
        assert token not in answer.content.decode()
    assert first["Location"] == "/invitation/"
    assert token not in caplog.text
    assert token not in str(dict(client.session))
    assert not any(token in query["sql"] for query in queries.captured_queries)
    assert not AuditEvent.objects.filter(content__contains=token).exists()
    assert not Invitation.objects.filter(token_digest=token).exists()


def test_a_made_up_link_opens_no_sign_up(settings: Any, cast: Cast) -> None:
    settings.SIGNUP_OPEN = False
    client = Client()
    client.get("/invitations/" + "A" * 40 + "/")
    form = NEW | {"email": "sneaky@example.com", "organization": "Sneaky"}
    assert "Sign-up is closed" in client.post("/accounts/signup/", form).content.decode()
    assert not User.objects.filter(email="sneaky@example.com").exists()


def test_an_invitation_withdrawn_during_sign_up_makes_no_account(cast: Cast, settings: Any) -> None:
    settings.SIGNUP_OPEN = False
    client = Client()
    client.get(invite(log_in(cast.owner), cast))
    actions.revoke_invitation(Invitation.objects.get(), acting_user=cast.owner)
    client.post("/accounts/signup/", NEW)
    assert not User.objects.filter(email="new@example.com").exists()


def test_going_on_without_the_invitation(cast: Cast) -> None:
    client = Client()
    client.get(invite(log_in(cast.owner), cast))
    client.post("/invitation/dismiss/")
    assert "organization" in client.get("/accounts/signup/").context["form"].fields
    assert client.get("/invitation/").status_code == 410


def test_an_admin_invites_no_owner(cast: Cast) -> None:
    client = log_in(cast.admin)
    before = people(cast)
    for role in ("owner", "billing"):
        form = {"email": "new@example.com", "role": role, "project_role": "member"}
        assert client.post(url(cast, "members/invite/"), form).status_code == 403
    assert people(cast) == before
    assert not Job.objects.exists()


def test_nobody_invites_to_a_project_role_beyond_their_own(cast: Cast) -> None:
    role = actions.create_role(cast.organization, "Inviter", ["member.manage"], actor=actor(cast))
    actions.assign_role(role, cast.viewer, actor=actor(cast))
    form = {
        "email": "new@example.com",
        "role": "viewer",
        "projects": [cast.project.public_id],
        "project_role": "owner",
    }
    client = log_in(cast.viewer)
    assert client.post(url(cast, "members/invite/"), form).status_code == 403
    assert not Invitation.objects.exists()
    form["project_role"] = "viewer"
    assert client.post(url(cast, "members/invite/"), form).status_code == 302


@pytest.mark.parametrize(
    "changes",
    [
        {"email": ""},
        {"email": "no address"},
        {"email": "owner@example.com"},
        {"role": "emperor"},
        {"projects": ["proj_absent"]},
    ],
)
def test_bad_invitations_are_not_sent(cast: Cast, changes: dict[str, Any]) -> None:
    form = {"email": "new@example.com", "role": "viewer", "project_role": "member"} | changes
    answer = log_in(cast.owner).post(url(cast, "members/invite/"), form)
    assert answer.status_code == 400
    assert list(answer.context["form"].errors) == list(changes)
    assert not Invitation.objects.exists() and not Job.objects.exists()


def test_names_cannot_forge_the_mail(cast: Cast) -> None:
    Organization.objects.filter(pk=cast.organization.pk).update(name="Acme <b> {link} %s")
    link = invite(log_in(cast.owner), cast)
    message = mail.outbox[-1]
    assert "Acme <b> {link} %s" in message.subject
    assert message.body.count(link) == 1


def test_a_suspended_organization_invites_nobody(cast: Cast) -> None:
    client = log_in(cast.suspended)
    base = f"/o/{cast.suspended_organization.public_id}/members/"
    assert "members/invite/" not in client.get(base).content.decode()
    form = {"email": "new@example.com", "role": "viewer", "project_role": "member"}
    assert client.post(base + "invite/", form).status_code == 403
    assert not Invitation.objects.exists() and not Job.objects.exists()


def test_the_mail_names_the_page_that_exists() -> None:
    assert invitation_link("TOKEN").endswith(reverse("invitation_link", args=["TOKEN"]))


def test_expired_invitations_are_shown_as_such(cast: Cast) -> None:
    client = log_in(cast.owner)
    invite(client, cast)
    Invitation.objects.update(expires_at=timezone.now() - timedelta(days=1))
    page = client.get(url(cast)).content.decode()
    assert "new@example.com" in page and "Expired" in page
