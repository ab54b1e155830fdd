"""Mass enumeration of ids: none can be guessed, and a foreign one answers as an absent one."""

from __future__ import annotations

import itertools

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tenants import identifiers
from tests.api.management import Caller
from tests.cast import Cast
from tests.portal.conftest import log_in, without_tokens

pytestmark = pytest.mark.django_db
MAKERS = [getattr(identifiers, name) for name in dir(identifiers) if name.startswith("new_")]


@pytest.mark.parametrize("make", MAKERS)
def test_ids_are_random_and_say_nothing_of_each_other(make: object) -> None:
    ids = sorted(make() for _ in range(2_000))  # type: ignore[operator]
    bodies = [each.rpartition("_")[2] for each in ids]

    assert len(set(bodies)) == 2_000
    assert {len(body) for body in bodies} == {16}  # 95 bits
    # No two begin alike for long: nothing counts up, and no time of day is in them.
    assert max(_shared(a, b) for a, b in itertools.pairwise(bodies)) <= 6


def _shared(first: str, second: str) -> int:
    for length, (a, b) in enumerate(zip(first, second, strict=True)):
        if a != b:
            return length
    return len(first)


def test_row_numbers_open_nothing(cast: Cast) -> None:
    client, caller = log_in(cast.owner), Caller(cast.owner_admin_key)
    for number in (cast.organization.pk, cast.other_organization.pk, 1, 0, -1):
        assert client.get(f"/o/{number}/").status_code == 404
        assert caller.send("GET", f"/projects/{number}").status_code == 404
        assert caller.send("GET", f"/users/{number}").status_code == 404


def test_a_foreign_object_answers_as_an_absent_one(cast: Cast) -> None:
    """Word for word, and after as many statements."""
    caller = Caller(cast.owner_admin_key)
    caller.get("/projects")  # the first call of a minute is noted
    pairs = (
        ("/projects/{}", cast.other_project.public_id, "proj_"),
        ("/projects/{}/api_keys", cast.other_project.public_id, "proj_"),
        ("/users/{}", cast.stranger.public_id, "user_"),
        ("/admin_api_keys/{}", cast.stranger_admin_api_key.public_id, "key_"),
        (f"/projects/{cast.project.public_id}/api_keys/{{}}", cast.stranger_api_key.public_id, "key_"),
    )  # fmt: skip
    for address, foreign, prefix in pairs:
        absent = prefix + identifiers.random_text(16)
        answers = []
        for object_id in (foreign, absent):
            with CaptureQueriesContext(connection) as statements:
                response = caller.send("GET", address.format(object_id))
            body = response.content.decode().replace(object_id, "ID")
            answers.append((response.status_code, body, len(statements)))
        assert answers[0] == answers[1], address
        assert answers[0][0] == 404 and answers[0][2] > 0


def test_a_foreign_page_is_an_absent_page(cast: Cast) -> None:
    client = log_in(cast.owner)
    for page in ("", "keys/", "usage/", "settings/", "audit/", "members/"):
        shown = []
        for organization in (cast.other_organization.public_id, "org_" + "0" * 16):
            response = client.get(f"/o/{organization}/{page}")
            shown.append((response.status_code, without_tokens(response.content)))
        assert shown[0] == shown[1], page
        assert shown[0][0] == 404
