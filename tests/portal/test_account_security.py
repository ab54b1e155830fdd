"""Addresses, sessions and the trail of an account; what ends with a password."""

from __future__ import annotations

import re
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from allauth.usersessions.models import UserSession
from django.core import mail
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from portal import account_audit, sessions
from tenants.models import AuditEvent, Membership
from tests.cast import PASSWORD, Cast
from tests.portal.conftest import log_in

pytestmark = pytest.mark.django_db
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
NEW = {"password1": "quite another phrase", "password2": "quite another phrase"}


def by_password(email: str, **extra: Any) -> Client:
    client = Client(**extra)
    client.post("/accounts/login/", {"login": email, "password": PASSWORD})
    return client


def is_logged_in(client: Client) -> bool:
    return client.get("/accounts/security/").status_code == 200


def actions_of(organization: Any) -> list[str]:
    events = AuditEvent.objects.filter(organization=organization).order_by("pk")
    return [event.action for event in events if event.action != "organization.created"]


# --- Sessions -----------------------------------------------------------------------------


def test_a_log_in_gets_a_new_session(cast: Cast) -> None:
    client = Client()
    client.get("/accounts/login/")
    session = client.session
    session["planted"] = True
    session.save()
    fixed = client.session.session_key
    client.post("/accounts/login/", {"login": cast.owner.email, "password": PASSWORD})
    assert client.session.session_key != fixed
    thief = Client()
    thief.cookies["sessionid"] = fixed
    assert not is_logged_in(thief)


def test_sessions_are_listed_and_one_is_ended(cast: Cast) -> None:
    here = by_password(cast.owner.email, headers={"user-agent": FIREFOX})
    there = by_password(cast.owner.email)
    page = here.get("/accounts/sessions/").content.decode()
    assert "Firefox on Linux" in page
    assert page.count("Log out<span") == 1, "every session but this one"
    other = UserSession.objects.get(session_key=there.session.session_key)
    here.post("/accounts/sessions/", {"session": other.pk})
    assert is_logged_in(here)
    assert not is_logged_in(there)
    assert "session.ended" in actions_of(cast.organization)


def test_all_others_are_ended(cast: Cast) -> None:
    here, *others = (by_password(cast.owner.email) for _ in range(3))
    here.post("/accounts/sessions/")
    assert is_logged_in(here)
    assert not any(is_logged_in(other) for other in others)


def test_nobody_ends_the_session_of_another(cast: Cast) -> None:
    theirs = by_password(cast.owner.email)
    row = UserSession.objects.get(session_key=theirs.session.session_key)
    mine = by_password(cast.stranger.email)
    assert mine.post("/accounts/sessions/", {"session": row.pk}).status_code == 404
    assert mine.post("/accounts/sessions/", {"session": "x"}).status_code == 404
    assert is_logged_in(theirs)


def test_use_is_noted_now_and_then(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    client = by_password(cast.owner.email, REMOTE_ADDR="203.0.113.1")
    row = UserSession.objects.get()
    client.get("/", REMOTE_ADDR="203.0.113.2")
    row.refresh_from_db()
    assert row.ip == "203.0.113.1", "not for each page"
    monkeypatch.setattr(sessions, "SEEN_EVERY_S", -1)
    client.get("/", REMOTE_ADDR="203.0.113.2")
    row.refresh_from_db()
    assert row.ip == "203.0.113.2"


def test_a_changed_password_ends_the_other_sessions(cast: Cast) -> None:
    here, there = by_password(cast.owner.email), by_password(cast.owner.email)
    here.post("/accounts/password/change/", NEW | {"oldpassword": PASSWORD})
    assert is_logged_in(here)
    assert not is_logged_in(there)
    assert here.get("/accounts/sessions/").content.decode().count('class="what"') == 1
    assert "password.changed" in actions_of(cast.organization)


def test_a_reset_ends_every_session_and_its_link_works_once(cast: Cast) -> None:
    before = by_password(cast.owner.email)
    Client().post("/accounts/password/reset/", {"email": cast.owner.email})
    link = re.search(r"http://testserver(/accounts/password/reset/key/\S+)", mail.outbox[0].body)
    assert link
    first, second = Client(), Client()
    forms = [client.get(link[1], follow=True) for client in (first, second)]
    first.post(forms[0].redirect_chain[-1][0], NEW)
    assert not is_logged_in(before)
    stolen = {"password1": "the phrase of a thief", "password2": "the phrase of a thief"}
    page = second.post(forms[1].redirect_chain[-1][0], stolen)
    assert "no longer works" in page.content.decode()
    cast.owner.refresh_from_db()
    assert cast.owner.check_password(NEW["password1"])
    assert "password.reset" in actions_of(cast.organization)


# --- Addresses ------------------------------------------------------------------------------


def confirmed(email: str) -> Client:
    client = by_password(email)
    client.post("/accounts/confirm/password/", {"password": PASSWORD})
    return client


def confirm(body: str) -> None:
    link = re.search(r"http://testserver(/accounts/confirm-email/\S+)", body)
    assert link
    Client().post(link[1])


def test_an_address_is_added_confirmed_and_made_the_log_in_name(cast: Cast) -> None:
    client = confirmed(cast.owner.email)
    client.post("/accounts/email/", {"action_add": "", "email": "New@example.com"})
    client.post("/accounts/email/", {"action_primary": "", "email": "new@example.com"})
    cast.owner.refresh_from_db()
    confirm(next(m.body for m in mail.outbox if m.to == ["new@example.com"]))
    client.post("/accounts/email/", {"action_primary": "", "email": "new@example.com"})
    cast.owner.refresh_from_db()
    assert cast.owner.email == "new@example.com"
    assert "email.changed" in actions_of(cast.organization)


def test_the_log_in_name_cannot_be_removed(cast: Cast) -> None:
    EmailAddress.objects.create(user=cast.owner, email="other@example.com", verified=True)
    client = confirmed(cast.owner.email)
    client.get("/accounts/email/")
    client.post("/accounts/email/", {"action_remove": "", "email": "owner@example.com"})
    cast.owner.refresh_from_db()
    assert cast.owner.email == "owner@example.com"


def test_a_taken_address_looks_as_any_other_and_gets_no_link(cast: Cast) -> None:
    client = confirmed(cast.owner.email)
    answers = []
    for email in (cast.stranger.email, "free@example.com"):
        response = client.post("/accounts/email/", {"action_add": "", "email": email})
        answers.append((response.status_code, response["Location"]))
    assert answers[0] == answers[1]
    linked = {m.to[0] for m in mail.outbox if "/accounts/confirm-email/" in m.body}
    assert linked == {"free@example.com"}


# --- The trail ------------------------------------------------------------------------------


def test_log_in_and_out_are_in_the_organization_s_trail(cast: Cast) -> None:
    client = by_password(cast.owner.email, REMOTE_ADDR="203.0.113.9")
    client.post("/accounts/logout/")
    events = AuditEvent.objects.filter(organization=cast.organization, acting_user=cast.owner)
    found = {e.action: e.address for e in events.filter(action__startswith="log")}
    assert set(found) == {"login.succeeded", "logout.succeeded"}
    assert found["login.succeeded"] == "203.0.113.9"
    assert actions_of(cast.other_organization) == [
        action for action in actions_of(cast.other_organization) if not action.startswith("log")
    ]


def test_a_failed_log_in_names_the_account_but_no_actor(cast: Cast) -> None:
    Client().post("/accounts/login/", {"login": cast.owner.email, "password": "a wrong phrase"})
    event = AuditEvent.objects.get(action="login.failed")
    assert (event.organization, event.acting_user) == (cast.organization, None)
    assert event.object_id == cast.owner.public_id
    assert "a wrong phrase" not in event.content


def test_a_failed_log_in_of_nobody_keeps_a_digest_only(cast: Cast) -> None:
    for email in ("nobody@example.com", "Nobody@example.com", "another@example.com"):
        Client().post("/accounts/login/", {"login": email, "password": "wrong"})
    events = list(AuditEvent.objects.filter(action="login.failed").order_by("pk"))
    assert [event.organization for event in events] == [None] * 3
    digests = [event.after["address_digest"] for event in events]
    assert digests[0] == digests[1] != digests[2]
    assert not any("example.com" in event.content for event in events)


def test_a_member_of_many_leaves_a_bounded_trail(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_audit, "MOST_ORGANIZATIONS", 2)
    for organization in (cast.other_organization, cast.suspended_organization):
        Membership.objects.create(organization=organization, user=cast.owner, role="viewer")
    by_password(cast.owner.email)
    assert AuditEvent.objects.filter(action="login.succeeded").count() == 2


def test_known_and_unknown_addresses_ask_the_same_questions(cast: Cast) -> None:
    """So that the time of a refusal tells little about an address."""
    counts = []
    for email in (cast.owner.email, "nobody@example.com"):
        with CaptureQueriesContext(connection) as queries:
            Client().post("/accounts/login/", {"login": email, "password": "wrong"})
        counts.append(len([q for q in queries if "set_config" not in q["sql"]]))
    assert counts[0] == counts[1]


def test_the_security_page_asks_for_a_log_in(cast: Cast) -> None:
    for path in ("security/", "sessions/", "email/", "recovery-codes/", "app/add/"):
        response = Client().get("/accounts/" + path)
        assert response.status_code == 302, path
        assert response["Location"].startswith("/accounts/login/"), path
    assert log_in(cast.owner).get("/accounts/security/").status_code == 200
