"""Idempotent ids reused: by another caller, for another request, or to choose an object's id."""

from __future__ import annotations

import pytest

from portal.form_ids import new_key_form_id
from tenants.models import ApiKey, Project
from tests.api.management import Caller
from tests.cast import Cast
from tests.portal.conftest import log_in

pytestmark = pytest.mark.django_db
KEY = {"Idempotency-Key": "one-key-of-many-callers"}


def test_one_key_of_two_callers_is_two_requests(cast: Cast, owner: Caller) -> None:
    """The second one neither sees the first one's answer nor is kept from its own."""
    stranger = Caller(cast.stranger_admin_key)
    second = Caller(owner.post("/admin_api_keys", {"name": "second"})["value"])
    made = [
        caller.post("/projects", {"name": "Same"}, status, headers=KEY)
        for caller, status in ((owner, 200), (stranger, 200), (second, 400))
    ]
    assert made[0]["id"] != made[1]["id"]
    assert made[2]["code"] != "idempotency_key_reused"
    assert Project.objects.filter(name="Same").count() == 2


def test_a_key_sent_with_another_request_is_refused_and_changes_nothing(owner: Caller) -> None:
    first = owner.post("/projects", {"name": "First"}, headers=KEY)
    for path, body in (("/projects", {"name": "Other"}), ("/admin_api_keys", {"name": "First"})):
        response = owner.send("POST", path, body, headers=KEY)
        assert response.status_code in (400, 409, 422), response.content
    assert owner.post("/projects", {"name": "First"}, headers=KEY) == first
    assert Project.objects.filter(name__in=["First", "Other"]).count() == 1


def test_a_repeated_answer_shows_no_secret_again_to_anybody_else(cast: Cast, owner: Caller) -> None:
    first = owner.post("/admin_api_keys", {"name": "once"}, headers=KEY)
    for caller in (Caller(cast.stranger_admin_key), Caller(first["value"])):
        response = caller.send("POST", "/admin_api_keys", {"name": "once"}, headers=KEY)
        assert first["value"] not in response.content.decode()


def test_a_forms_id_is_no_way_to_choose_or_to_take_an_id(cast: Cast) -> None:
    base = f"/o/{cast.organization.public_id}/keys/new/"
    form = {"name": "mine", "project": cast.project.public_id, "expires": "never"}
    client, before = log_in(cast.owner), ApiKey.objects.count()
    for form_id in (
        "key_" + "0" * 16,
        cast.stranger_api_key.public_id,
        cast.owner_api_key.public_id,
        new_key_form_id(cast.stranger, cast.other_organization),
        new_key_form_id(cast.stranger, cast.organization),
        new_key_form_id(cast.owner, cast.other_organization),
        "",
    ):
        response = client.post(base, {**form, "form_id": form_id})
        assert response.status_code in (302, 400), response.status_code
    assert ApiKey.objects.count() == before
