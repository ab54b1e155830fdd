"""API keys on the pages: who sees, creates and revokes them; the secret, once."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tenants import actions
from tenants.keys import digest, lookup_of
from tenants.models import ApiKey, AuditEvent
from tests.cast import Cast, build_cast
from tests.portal.conftest import form_id_in, log_in, without_tokens

MAY_CHANGE = ("owner", "admin", "member")
MAY_ONLY_LOOK = ("billing", "viewer")


def keys_url(cast: Cast) -> str:
    return f"/o/{cast.organization.public_id}/keys/"


def new_key_form(client: Client, cast: Cast, **changes: str) -> dict[str, str]:
    page = client.get(keys_url(cast) + "new/")
    return {
        "form_id": form_id_in(page.content.decode()),
        "name": "Backend",
        "project": cast.project.public_id,
        "expires": "",
    } | changes


def secret_in(response: Any) -> str:
    return str(response.context["secret"])


@pytest.mark.parametrize("who", MAY_CHANGE)
def test_create_list_revoke(cast: Cast, who: str) -> None:
    client = log_in(getattr(cast, who))
    created = client.post(keys_url(cast) + "new/", new_key_form(client, cast))
    assert created.status_code == 201
    secret = secret_in(created)
    key = ApiKey.objects.get(lookup=lookup_of(secret))
    assert (key.organization, key.project) == (cast.organization, cast.project)
    assert key.created_by == getattr(cast, who)
    listing = client.get(keys_url(cast)).content.decode()
    assert "Backend" in listing
    assert secret[-4:] in listing
    revoke = f"{keys_url(cast)}{key.public_id}/revoke/"
    assert "Backend" in client.get(revoke).content.decode()
    key.refresh_from_db()
    assert key.is_live, "the confirmation page must not revoke by itself"
    assert client.post(revoke)["Location"] == keys_url(cast)
    key.refresh_from_db()
    assert not key.is_live
    actions_taken = AuditEvent.objects.filter(object_id=key.public_id).values_list(
        "action", flat=True
    )
    assert set(actions_taken) == {"api_key.created", "api_key.revoked"}


@pytest.mark.parametrize("who", MAY_ONLY_LOOK)
def test_others_see_keys_but_change_nothing(cast: Cast, who: str) -> None:
    form = new_key_form(log_in(cast.owner), cast)
    client = log_in(getattr(cast, who))
    listing = client.get(keys_url(cast))
    assert listing.status_code == 200
    assert "keys/new/" not in listing.content.decode()
    assert "/revoke/" not in listing.content.decode()
    revoke = f"{keys_url(cast)}{cast.owner_api_key.public_id}/revoke/"
    for method in (client.get, client.post):
        assert method(keys_url(cast) + "new/", form).status_code == 403
        assert method(revoke).status_code == 403
    assert ApiKey.objects.filter(organization=cast.organization).count() == 1
    cast.owner_api_key.refresh_from_db()
    assert cast.owner_api_key.is_live


def test_secret_is_shown_in_one_response_and_kept_nowhere(
    cast: Cast, caplog: pytest.LogCaptureFixture
) -> None:
    client = log_in(cast.owner)
    with caplog.at_level(logging.DEBUG), CaptureQueriesContext(connection) as queries:
        created = client.post(keys_url(cast) + "new/", new_key_form(client, cast))
    secret = secret_in(created)
    assert created.content.decode().count(secret) == 3, "shown, in curl, in Python"
    assert "no-store" in created["Cache-Control"]
    assert "Location" not in created
    assert not any(secret in query["sql"] for query in queries.captured_queries)
    assert secret not in caplog.text
    assert secret not in str(dict(client.session))
    assert not any(secret in cookie.value for cookie in client.cookies.values())
    for path in ("", "keys/", "usage/", "settings/"):
        page = client.get(f"/o/{cast.organization.public_id}/{path}")
        assert secret not in page.content.decode()


def test_only_a_digest_is_stored(cast: Cast, settings: Any) -> None:
    client = log_in(cast.owner)
    secret = secret_in(client.post(keys_url(cast) + "new/", new_key_form(client, cast)))
    key = ApiKey.objects.get(lookup=lookup_of(secret))
    assert bytes(key.secret_hmac) == digest(secret, settings.API_KEY_PEPPER)


def test_sending_the_form_twice_makes_one_key(cast: Cast) -> None:
    client = log_in(cast.owner)
    form = new_key_form(client, cast)
    assert client.post(keys_url(cast) + "new/", form).status_code == 201
    again = client.post(keys_url(cast) + "new/", form, follow=True)
    assert again.redirect_chain[-1][0] == keys_url(cast)
    assert "sent twice" in again.content.decode()
    assert ApiKey.objects.filter(organization=cast.organization, name="Backend").count() == 1


@pytest.mark.django_db(transaction=True)
def test_sending_the_form_at_once_from_two_threads_makes_one_key() -> None:
    cast = build_cast()
    form = new_key_form(log_in(cast.owner), cast)
    start = threading.Barrier(4)
    statuses: list[int] = []

    def send() -> None:
        client = log_in(cast.owner)
        start.wait(timeout=10)
        statuses.append(client.post(keys_url(cast) + "new/", form).status_code)
        connection.close()

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(statuses) == [201, 302, 302, 302]
    assert ApiKey.objects.filter(name="Backend").count() == 1


def test_a_form_of_someone_else_or_altered_makes_no_key(cast: Cast) -> None:
    theirs = new_key_form(log_in(cast.admin), cast)["form_id"]
    client = log_in(cast.owner)
    for form_id in (theirs, theirs + "x", "key_0000000000000000", ""):
        form = new_key_form(client, cast, form_id=form_id)
        assert client.post(keys_url(cast) + "new/", form).status_code in {302, 400}
    assert ApiKey.objects.filter(organization=cast.organization).count() == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "a\x07b"},
        {"name": "n" * 121},
        {"project": "proj_absent"},
        {"expires": "-1"},
        {"expires": "99999"},
    ],
)
def test_bad_input_is_refused_with_the_form(cast: Cast, changes: dict[str, str]) -> None:
    client = log_in(cast.owner)
    response = client.post(keys_url(cast) + "new/", new_key_form(client, cast, **changes))
    assert response.status_code == 400
    assert list(response.context["form"].errors) == list(changes)
    assert ApiKey.objects.filter(organization=cast.organization).count() == 1


def test_a_foreign_project_is_not_a_choice(cast: Cast) -> None:
    client = log_in(cast.owner)
    form = new_key_form(client, cast, project=cast.other_project.public_id)
    assert client.post(keys_url(cast) + "new/", form).status_code == 400
    assert cast.other_project.api_keys.count() == 1


def test_expiry_is_set(cast: Cast) -> None:
    client = log_in(cast.owner)
    created = client.post(keys_url(cast) + "new/", new_key_form(client, cast, expires="30"))
    key = created.context["key"]
    assert 29 <= (key.expires_at - key.created_at).days <= 30


@pytest.mark.parametrize("path", ["", "keys/", "keys/new/", "usage/", "settings/"])
def test_a_foreign_organization_is_as_absent_as_an_absent_one(cast: Cast, path: str) -> None:
    client = log_in(cast.stranger)
    foreign = client.get(f"/o/{cast.organization.public_id}/{path}")
    absent = client.get(f"/o/org_0000000000000000/{path}")
    assert foreign.status_code == absent.status_code == 404
    assert without_tokens(foreign.content) == without_tokens(absent.content)
    assert dict(foreign.headers) == dict(absent.headers)
    nowhere = client.get("/nowhere/")
    assert without_tokens(foreign.content) == without_tokens(nowhere.content)


def test_a_stranger_revokes_nothing(cast: Cast) -> None:
    client = log_in(cast.stranger)
    mine, theirs = cast.other_organization.public_id, cast.organization.public_id
    key = cast.owner_api_key.public_id
    for organization in (mine, theirs):
        assert client.post(f"/o/{organization}/keys/{key}/revoke/").status_code == 404
    cast.owner_api_key.refresh_from_db()
    assert cast.owner_api_key.is_live


def test_suspended_organization_is_readable_and_creates_nothing(cast: Cast) -> None:
    client = log_in(cast.suspended)
    base = f"/o/{cast.suspended_organization.public_id}/"
    for path in ("", "keys/", "usage/", "settings/"):
        page = client.get(base + path)
        assert page.status_code == 200
        assert "This organization is suspended" in page.content.decode()
        assert "Unpaid" in page.content.decode()
    form = {
        "form_id": form_id_in(client.get(base + "keys/new/").content.decode()),
        "name": "Sneaked in",
        "project": cast.suspended_organization.projects.get().public_id,
        "expires": "",
    }
    refused = client.post(base + "keys/new/", form)
    assert refused.status_code == 403
    assert "suspended" in refused.content.decode()
    assert cast.suspended_organization.api_keys.count() == 1


def test_names_are_escaped(cast: Cast) -> None:
    attack = "<script>alert(1)</script>\"'><img src=x>"
    client = log_in(cast.owner)
    created = client.post(keys_url(cast) + "new/", new_key_form(client, cast, name=attack))
    actions.update_organization(cast.organization, {"name": attack}, acting_user=cast.owner)
    key = created.context["key"]
    revoked = client.post(f"{keys_url(cast)}{key.public_id}/revoke/", follow=True)
    pages = [created, revoked] + [
        client.get(f"/o/{cast.organization.public_id}/{path}")
        for path in ("", "keys/", "keys/new/", "usage/", "settings/")
    ]
    for page in pages:
        html = page.content.decode()
        assert "<script>alert" not in html
        assert "<img" not in html
    assert "&lt;script&gt;" in revoked.content.decode()


def test_forms_need_their_csrf_token(cast: Cast) -> None:
    form = new_key_form(log_in(cast.owner), cast)
    client = log_in(cast.owner, enforce_csrf_checks=True)
    revoke = f"{keys_url(cast)}{cast.owner_api_key.public_id}/revoke/"
    for url, data in (
        (keys_url(cast) + "new/", form),
        (revoke, {}),
        ("/accounts/logout/", {}),
    ):
        refused = client.post(url, data)
        assert refused.status_code == 403
        assert "This form has expired" in refused.content.decode()
    cast.owner_api_key.refresh_from_db()
    assert cast.owner_api_key.is_live
    assert ApiKey.objects.filter(organization=cast.organization).count() == 1


def test_listing_costs_the_same_for_many_keys(cast: Cast) -> None:
    client = log_in(cast.owner)
    client.get(keys_url(cast))  # remembers the organization in the session, once

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(keys_url(cast)).status_code == 200
        return len(captured)

    few = queries()
    for number in range(60):
        actions.create_api_key(cast.project, f"Key {number}", acting_user=cast.owner)
    assert queries() == few == 6  # session, user, membership, count, keys, switcher
    assert "Page 1 of 2" in client.get(keys_url(cast)).content.decode()
    for page in ("2", "0", "99", "x", "-1", ""):
        assert client.get(keys_url(cast), {"page": page}).status_code == 200


def test_pages_ask_for_a_log_in(cast: Cast) -> None:
    for path in ("", "keys/", "keys/new/", "usage/", "settings/"):
        url = f"/o/{cast.organization.public_id}/{path}"
        assert Client().get(url)["Location"].startswith("/accounts/login/?next=/o/")
