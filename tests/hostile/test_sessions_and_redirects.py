"""Session fixation at log-in, and open redirects at log-in and where the theme is chosen."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.test import Client

from tests.cast import PASSWORD, Cast
from tests.portal.conftest import log_in

pytestmark = pytest.mark.django_db

ELSEWHERE = (
    "https://evil.example/", "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example",
    "http:evil.example", "javascript:alert(1)", "data:text/html,x", "https:///evil.example",
    " //evil.example", "\t//evil.example", "/\t/evil.example", "//evil.example%2f..", "http://testserver@evil.example",
    "https://testserver.evil.example", "ftp://testserver/", "\x00//evil.example", "//\x00evil.example",
)  # fmt: skip


def authenticate(client: Client, **fields: str) -> object:
    return client.post(
        "/accounts/login/", {"login": "owner@example.com", "password": PASSWORD, **fields}
    )


def test_a_session_known_before_log_in_is_not_the_one_after(cast: Cast) -> None:
    """Whoever planted a cookie in somebody's browser is not logged in with them."""
    client = Client()
    client.get("/accounts/login/")
    session = client.session
    session["planted"] = "by the attacker"
    session.save()
    client.cookies[settings.SESSION_COOKIE_NAME] = planted = session.session_key

    assert authenticate(client).status_code == 302
    assert client.cookies[settings.SESSION_COOKIE_NAME].value != planted
    attacker = Client()
    attacker.cookies[settings.SESSION_COOKIE_NAME] = planted
    assert attacker.get("/", follow=True).redirect_chain[-1][0].startswith("/accounts/login/")


def test_a_made_up_session_id_is_never_adopted(cast: Cast) -> None:
    client = Client()
    client.cookies[settings.SESSION_COOKIE_NAME] = "a" * 32

    assert authenticate(client).status_code == 302
    assert client.cookies[settings.SESSION_COOKIE_NAME].value != "a" * 32


def test_another_persons_log_in_leaves_nothing_of_the_first(cast: Cast) -> None:
    client = log_in(cast.owner)
    client.get(f"/o/{cast.organization.public_id}/")
    client.post("/accounts/logout/")
    client.post("/accounts/login/", {"login": "stranger@example.com", "password": PASSWORD})

    page = client.get("/", follow=True)
    assert page.redirect_chain[-1][0] == f"/o/{cast.other_organization.public_id}/"
    assert client.get(f"/o/{cast.organization.public_id}/").status_code == 404


def test_logging_out_ends_the_session_on_the_server(cast: Cast) -> None:
    client = log_in(cast.owner)
    stolen = client.cookies[settings.SESSION_COOKIE_NAME].value
    client.post("/accounts/logout/")
    thief = Client()
    thief.cookies[settings.SESSION_COOKIE_NAME] = stolen

    assert thief.get(f"/o/{cast.organization.public_id}/").status_code == 302


@pytest.mark.parametrize("target", ELSEWHERE)
def test_log_in_and_theme_lead_nowhere_else(cast: Cast, target: str) -> None:
    places = [
        authenticate(Client(), next=target),
        Client().post("/theme/", {"next": target, "theme": "dark"}),
        log_in(cast.owner).get("/accounts/login/", {"next": target}),
        Client().post("/theme/", {"next": target}, headers={"referer": target}),
        log_in(cast.owner).post("/accounts/logout/", {"next": target}),
    ]
    for response in places:
        location = response.headers.get("Location", "/")
        assert location.startswith("/") and not location.startswith(("//", "/\\", "/\t")), location
        assert "evil" not in location.partition("?")[0]


def test_a_crafted_host_is_no_way_around(cast: Cast) -> None:
    for host in ("evil.example", "testserver.evil.example", "testserver@evil.example"):
        response = Client(headers={"host": host}).post("/theme/", {"next": f"https://{host}/"})
        assert response.status_code == 400
