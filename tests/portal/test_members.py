"""Members, invitations, groups and roles on the pages; joining by a link."""

from __future__ import annotations

import logging
import re
from datetime import timedelta
from smtplib import SMTPException
from typing import Any

import pytest
from django.core import mail
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tenants import access, actions
from tenants.models import (
    ApiKey,
    AuditEvent,
    CustomRole,
    Group,
    GroupMember,
    Invitation,
    Membership,
    Organization,
    ProjectMembership,
    RoleAssignment,
    User,
)
from tenants.permissions import ALL
from tests.cast import PASSWORD, Cast, make_user
from tests.portal.conftest import log_in

pytestmark = pytest.mark.django_db
NEW = {"password1": "a long enough passphrase", "password2": "a long enough passphrase"}


def url(cast: Cast, path: str = "members/") -> str:
    return f"/o/{cast.organization.public_id}/{path}"


def actor(cast: Cast, who: str = "owner") -> access.Actor:
    return access.get_actor(cast.organization.memberships.get(user=getattr(cast, who)))


def people(cast: Cast) -> list[Any]:
    """What a refused attempt must leave as it was."""
    models = (Membership, Invitation, Group, GroupMember, CustomRole, RoleAssignment)
    return [list(model.objects.order_by("pk").values()) for model in models]


def role_of(cast: Cast, user: User) -> str:
    return str(cast.organization.memberships.get(user=user).role)


# --- Members ----------------------------------------------------------------------------------


def test_everybody_sees_who_is_there(cast: Cast) -> None:
    for who in ("owner", "member", "viewer", "billing"):
        page = log_in(getattr(cast, who)).get(url(cast)).content.decode()
        assert cast.admin.email in page
        assert cast.stranger.email not in page
        assert ("members/invite/" in page) == (who == "owner")


def test_members_are_found(cast: Cast) -> None:
    client = log_in(cast.owner)
    found = client.get(url(cast), {"q": "VIEW"}).context["page"].object_list
    assert [member.user for member in found] == [cast.viewer]
    assert "Nobody found" in client.get(url(cast), {"q": cast.stranger.email}).content.decode()
    for query in ("\0", "x" * 999, "%", "'"):
        assert client.get(url(cast), {"q": query}).status_code == 200


def test_an_owner_changes_roles(cast: Cast) -> None:
    client = log_in(cast.owner)
    member = url(cast, f"members/{cast.viewer.public_id}/")
    assert "Looks and changes nothing" in client.get(member).content.decode()
    changed = client.post(member, {"role": "admin"}, follow=True).content.decode()
    assert "viewer@example.com is Admin now" in changed
    assert role_of(cast, cast.viewer) == "admin"
    event = AuditEvent.objects.get(action="member.changed")
    assert (event.before, event.after) == ({"role": "viewer"}, {"role": "admin"})
    assert client.post(member, {"role": "emperor"}).status_code == 400


def test_an_admin_reaches_no_owner_and_no_money(cast: Cast) -> None:
    client = log_in(cast.admin)
    before = people(cast)
    for user, role in (
        (cast.owner, "viewer"),
        (cast.viewer, "owner"),
        (cast.viewer, "billing"),
        (cast.billing, "viewer"),
        (cast.admin, "owner"),
    ):
        member = url(cast, f"members/{user.public_id}/")
        assert client.post(member, {"role": role}).status_code == 403, (user, role)
    for user in (cast.owner, cast.billing):
        assert client.post(url(cast, f"members/{user.public_id}/remove/")).status_code == 403
    assert people(cast) == before
    shown = client.get(url(cast, f"members/{cast.viewer.public_id}/")).content.decode()
    assert 'value="owner"' not in shown and 'value="developer"' in shown
    assert (
        "/remove/" not in client.get(url(cast, f"members/{cast.owner.public_id}/")).content.decode()
    )


@pytest.mark.parametrize("who", ["member", "billing", "viewer"])
def test_others_change_nobody(cast: Cast, who: str) -> None:
    invitation, _ = actions.invite_member(
        cast.organization, "new@example.com", "viewer", actor=actor(cast)
    )
    group = actions.create_group(cast.organization, "Science", acting_user=cast.owner)
    actions.add_group_member(group, cast.admin, actor=actor(cast))
    role = actions.create_role(cast.organization, "Reader", ["usage.read"], actor=actor(cast))
    given = actions.assign_role(role, group, actor=actor(cast))
    client = log_in(getattr(cast, who))
    before = people(cast)
    me = getattr(cast, who)
    posts = {
        f"members/{cast.admin.public_id}/": {"role": "viewer"},
        f"members/{me.public_id}/": {"role": "owner"},
        f"members/{cast.admin.public_id}/remove/": {},
        "members/invite/": {"email": "x@example.com", "role": "viewer"},
        f"invitations/{invitation.public_id}/resend/": {},
        f"invitations/{invitation.public_id}/revoke/": {},
        "groups/new/": {"name": "Theirs"},
        f"groups/{group.public_id}/": {"email": me.email},
        f"groups/{group.public_id}/rename/": {"name": "Theirs"},
        f"groups/{group.public_id}/delete/": {},
        f"groups/{group.public_id}/members/{cast.admin.public_id}/remove/": {},
        "roles/new/": {"name": "Theirs", "permissions": ["usage.read"]},
        f"roles/{role.public_id}/": {"email": me.email},
        f"roles/{role.public_id}/edit/": {"name": "Theirs", "permissions": ["usage.read"]},
        f"roles/{role.public_id}/delete/": {},
        f"roles/{role.public_id}/unassign/{given.pk}/": {},
    }
    for path, form in posts.items():
        assert client.post(url(cast, path), form).status_code == 403, path
    assert people(cast) == before
    assert mail.outbox == []
    # Whom the organization asks is for those who ask.
    assert "new@example.com" not in client.get(url(cast)).content.decode()


def test_a_stranger_finds_nobody(cast: Cast) -> None:
    client = log_in(cast.stranger)
    mine = f"/o/{cast.other_organization.public_id}/"
    group = actions.create_group(cast.organization, "Science", acting_user=cast.owner)
    before = people(cast)
    for path in (
        f"members/{cast.viewer.public_id}/",
        f"members/{cast.viewer.public_id}/remove/",
        f"groups/{group.public_id}/",
        f"groups/{group.public_id}/delete/",
    ):
        for base in (url(cast, ""), mine):
            assert client.post(base + path, {"role": "owner"}).status_code == 404
    assert people(cast) == before


def test_removing_tells_how_many_keys_end(cast: Cast) -> None:
    for number in range(2):
        actions.create_api_key(cast.project, f"Mine {number}", acting_user=cast.member)
    client = log_in(cast.admin)
    remove = url(cast, f"members/{cast.member.public_id}/remove/")
    page = client.get(remove).content.decode()
    assert "2 keys that they made" in page
    assert cast.organization.memberships.filter(user=cast.member).exists()
    assert client.post(remove)["Location"] == url(cast)
    assert not cast.organization.memberships.filter(user=cast.member).exists()
    assert not ApiKey.objects.filter(created_by=cast.member, revoked_at=None).exists()
    assert log_in(cast.member).get(url(cast)).status_code == 404


def test_anybody_may_leave_but_the_last_owner(cast: Cast) -> None:
    client = log_in(cast.viewer)
    assert "You lose access" in client.get(url(cast, "members/leave/")).content.decode()
    assert client.post(url(cast, "members/leave/"))["Location"] == "/"
    assert not cast.organization.memberships.filter(user=cast.viewer).exists()
    owner = log_in(cast.owner)
    refused = owner.post(url(cast, "members/leave/"), follow=True)
    assert "needs an owner" in refused.content.decode()
    assert role_of(cast, cast.owner) == "owner"
    demoted = owner.post(url(cast, f"members/{cast.owner.public_id}/"), {"role": "viewer"})
    assert demoted.status_code == 302
    assert role_of(cast, cast.owner) == "owner"


# --- Invitations ------------------------------------------------------------------------------


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
    assert mail.outbox == []


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
    assert not Invitation.objects.exists() and mail.outbox == []


def test_a_mail_that_fails_leaves_the_invitation_to_be_sent_again(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise SMTPException("greylisted")

    monkeypatch.setattr("django.core.mail.EmailMessage.send", refuse)
    form = {"email": "new@example.com", "role": "viewer", "project_role": "member"}
    page = log_in(cast.owner).post(url(cast, "members/invite/"), form, follow=True)
    assert "could not be sent" in page.content.decode()
    assert Invitation.objects.get().status == "pending"


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
    assert not Invitation.objects.exists() and mail.outbox == []


# --- Groups and roles -------------------------------------------------------------------------


def test_a_group_gives_its_roles_to_its_people(cast: Cast) -> None:
    client = log_in(cast.admin)
    client.post(url(cast, "groups/new/"), {"name": "On call"})
    group = Group.objects.get()
    form = {
        "name": "Key rotation",
        "description": "Creates keys, nothing else",
        "permissions": ["key.create"],
    }
    client.post(url(cast, "roles/new/"), form)
    role = CustomRole.objects.get()
    group_page, role_page = (
        url(cast, f"groups/{group.public_id}/"),
        url(cast, f"roles/{role.public_id}/"),
    )
    assert client.post(group_page, {"email": cast.viewer.email}).status_code == 302
    viewer = log_in(cast.viewer)
    assert viewer.get(url(cast, "keys/new/")).status_code == 403
    assert client.post(role_page, {"group": group.public_id}).status_code == 302
    assert viewer.get(url(cast, "keys/new/")).status_code == 200
    assert "On call" in client.get(role_page).content.decode()
    assert "Key rotation" in client.get(group_page).content.decode()
    member = client.get(url(cast, f"members/{cast.viewer.public_id}/")).content.decode()
    assert "On call" in member
    given = RoleAssignment.objects.get()
    assert client.post(f"{role_page}unassign/{given.pk}/").status_code == 302
    assert viewer.get(url(cast, "keys/new/")).status_code == 403
    remove = f"{group_page}members/{cast.viewer.public_id}/remove/"
    assert client.post(remove).status_code == 302
    assert not GroupMember.objects.exists()
    assert client.post(f"{group_page}rename/", {"name": "Night shift"}).status_code == 302
    assert client.post(f"{group_page}delete/").status_code == 302
    assert client.post(f"{role_page}delete/").status_code == 302
    assert not Group.objects.exists() and not CustomRole.objects.exists()


def test_a_role_in_one_project(cast: Cast) -> None:
    role = actions.create_role(cast.organization, "Limits", ["limit.manage"], actor=actor(cast))
    client = log_in(cast.owner)
    form = {"email": cast.viewer.email, "project": cast.project.public_id}
    client.post(url(cast, f"roles/{role.public_id}/"), form)
    other = actions.create_project(cast.organization, "Search", acting_user=cast.owner)
    viewer = log_in(cast.viewer)
    limits = "projects/{}/limits/"
    assert viewer.get(url(cast, limits.format(cast.project.public_id))).status_code == 200
    assert viewer.get(url(cast, limits.format(other.public_id))).status_code == 403


def test_an_admin_gives_no_role_beyond_their_own(cast: Cast) -> None:
    strong = actions.create_role(
        cast.organization, "Treasurer", ["billing.manage"], actor=actor(cast)
    )
    group = actions.create_group(cast.organization, "Money", acting_user=cast.owner)
    given = actions.assign_role(strong, group, actor=actor(cast))
    client = log_in(cast.admin)
    before = people(cast)
    role = f"roles/{strong.public_id}/"
    posts = {
        "roles/new/": {"name": "Mine", "permissions": ["billing.manage"]},
        f"{role}": {"email": cast.admin.email},
        f"{role}edit/": {"name": "Mine", "permissions": ["usage.read"]},
        f"{role}delete/": {},
        f"{role}unassign/{given.pk}/": {},
        f"groups/{group.public_id}/": {"email": cast.admin.email},
        f"groups/{group.public_id}/delete/": {},
    }
    for path, form in posts.items():
        assert client.post(url(cast, path), form).status_code == 403, path
    assert people(cast) == before
    assert "you do not have this" in client.get(url(cast, "roles/new/")).content.decode()


def test_every_permission_has_words() -> None:
    from portal.permission_words import PERMISSION_LABELS, SCOPE_LABELS
    from tenants.permissions import KEY_SCOPES

    assert set(PERMISSION_LABELS) == ALL
    assert set(SCOPE_LABELS) == KEY_SCOPES


def test_the_mail_names_the_page_that_exists() -> None:
    from django.urls import reverse

    from tenants.mail import invitation_link

    assert invitation_link("TOKEN").endswith(reverse("invitation_link", args=["TOKEN"]))


# --- Lists ------------------------------------------------------------------------------------


def test_lists_cost_the_same_for_many_rows(cast: Cast) -> None:
    client = log_in(cast.owner)
    client.get(url(cast))
    group = actions.create_group(cast.organization, "All", acting_user=cast.owner)
    role = actions.create_role(cast.organization, "Reader", ["usage.read"], actor=actor(cast))

    def fill(number: int) -> None:
        user = make_user(f"more{number}")
        Membership.objects.create(organization=cast.organization, user=user, role="viewer")
        actions.invite_member(
            cast.organization, f"new{number}@example.com", "viewer", actor=actor(cast)
        )
        actions.create_group(cast.organization, f"Group {number}", acting_user=cast.owner)
        actions.create_role(cast.organization, f"Role {number}", ["usage.read"], actor=actor(cast))
        actions.add_group_member(group, user, actor=actor(cast))
        actions.assign_role(role, user, actor=actor(cast))

    def queries(path: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(url(cast, path)).status_code == 200
        return len(captured)

    paths = (
        "members/",
        "groups/",
        "roles/",
        f"groups/{group.public_id}/",
        f"roles/{role.public_id}/",
    )
    fill(0)
    few = [queries(path) for path in paths]
    for number in range(1, 12):
        fill(number)
    assert [queries(path) for path in paths] == few
    assert few == [8, 6, 6, 9, 13]


def test_second_factors_are_told(cast: Cast) -> None:
    from allauth.mfa.models import Authenticator

    Authenticator.objects.create(user=cast.owner, type="totp", data={})
    Authenticator.objects.create(user=cast.viewer, type="recovery_codes", data={})
    found = {
        member.user.email: member.has_second_factor
        for member in log_in(cast.owner).get(url(cast)).context["page"].object_list
    }
    assert found[cast.owner.email] and not found[cast.viewer.email]


def test_expired_invitations_are_shown_as_such(cast: Cast) -> None:
    client = log_in(cast.owner)
    invite(client, cast)
    Invitation.objects.update(expires_at=timezone.now() - timedelta(days=1))
    page = client.get(url(cast)).content.decode()
    assert "new@example.com" in page and "Expired" in page
