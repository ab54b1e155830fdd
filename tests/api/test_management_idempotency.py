"""``Idempotency-Key``: once, however often and however close together it is sent."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.utils import timezone

from tenants import locks, scope
from tenants.idempotency import purge_requests
from tenants.models import ApiKey, IdempotentRequest, Project
from tests.api.management import Caller
from tests.cast import Cast, build_cast

KEY = {"Idempotency-Key": "a-1"}


def test_the_first_answer_comes_again(owner: Caller) -> None:
    made = owner.send("POST", "/projects", {"name": "Once"}, headers=KEY)
    again = owner.send("POST", "/projects", {"name": "Once"}, headers=KEY)
    assert made.content == again.content and again.status_code == 200
    assert "idempotent-replayed" not in made.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert made.headers["x-request-id"] != again.headers["x-request-id"]
    assert Project.objects.filter(name="Once").count() == 1


def test_an_error_of_the_request_is_remembered(owner: Caller) -> None:
    first = owner.post("/projects", {"name": ""}, 400, headers=KEY)
    assert owner.post("/projects", {"name": ""}, 400, headers=KEY) == first
    owner.post("/projects", {"name": "X"}, 422, headers=KEY)


def test_another_body_path_or_method_is_refused(owner: Caller, cast: Cast) -> None:
    owner.post("/projects", {"name": "Once"}, headers=KEY)
    for method, path, body in (
        ("POST", "/projects", {"name": "Twice"}),
        ("POST", "/groups", {"name": "Once"}),
        ("DELETE", f"/users/{cast.viewer.public_id}", None),
    ):
        response = owner.send(method, path, body, headers=KEY)
        assert response.status_code == 422
        assert response.json()["error"]["code"] == "idempotency_key_reused"
    assert not Project.objects.filter(name="Twice").exists()


def test_two_admin_keys_may_choose_the_same_text(owner: Caller, stranger: Caller) -> None:
    second = Caller(owner.post("/admin_api_keys", {"name": "Second"})["value"])
    for caller in (owner, second, stranger):
        caller.post("/groups", {"name": f"G{id(caller)}"}, headers=KEY)
    assert IdempotentRequest.objects.count() == 3


def test_a_deletion_is_repeated_without_a_404(owner: Caller, cast: Cast) -> None:
    path = f"/projects/{cast.project.public_id}/api_keys/{cast.owner_api_key.public_id}"
    assert owner.delete(path, headers=KEY) == owner.delete(path, headers=KEY)
    owner.delete(path, 404)


def test_the_secret_is_stored_nowhere_and_not_repeated(owner: Caller, cast: Cast) -> None:
    made = owner.post("/admin_api_keys", {"name": "Robot"}, headers=KEY)
    again = owner.post("/admin_api_keys", {"name": "Robot"}, headers=KEY)
    assert again["value"] is None and again == made | {"value": None}
    accounts = f"/projects/{cast.project.public_id}/service_accounts"
    account = owner.post(accounts, {"name": "R"}, headers={"Idempotency-Key": "a-2"})
    again = owner.post(accounts, {"name": "R"}, headers={"Idempotency-Key": "a-2"})
    assert again["api_key"]["value"] is None
    stored = b"".join(bytes(row.body) for row in IdempotentRequest.objects.all())
    for secret in (made["value"], account["api_key"]["value"]):
        assert secret.encode() not in stored and secret[20:].encode() not in stored
    # Whoever lost the first answer makes a new secret of the same key.
    rotated = owner.post(f"/admin_api_keys/{made['id']}/rotate", {"overlap_seconds": 0})
    Caller(rotated["value"]).get("/projects")
    Caller(made["value"]).get("/projects", 401)


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "\u00e9"])
def test_a_key_that_is_none_is_refused(owner: Caller, key: str) -> None:
    response = owner.send("POST", "/projects", {"name": "P"}, headers={"Idempotency-Key": key})
    assert response.status_code == 400
    assert not Project.objects.filter(name="P").exists()


def test_limits_and_conflicts_are_not_remembered(
    owner: Caller, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tenants import actions
    from tenants.errors import AlreadyDone

    def conflict(*_: Any, **__: Any) -> None:
        raise AlreadyDone("Rotated meanwhile.")

    path = f"/projects/{cast.project.public_id}/api_keys/{cast.owner_api_key.public_id}/rotate"
    with monkeypatch.context() as patch:
        patch.setattr("api.management.project_api_keys.views.rotate_api_key", conflict)
        owner.post(path, {}, 409, headers=KEY)
    assert not IdempotentRequest.objects.exists()
    assert owner.post(path, {}, headers=KEY)["value"]
    assert actions.rotate_api_key is not conflict


def test_a_crash_leaves_nothing_and_the_next_try_begins(
    owner: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tenants.actions import create_project

    def crash(*args: Any, **named: Any) -> None:
        create_project(*args, **named)
        raise RuntimeError("cut off")

    with monkeypatch.context() as patch:
        patch.setattr("api.management.projects.views.create_project", crash)
        assert owner.post("/projects", {"name": "Once"}, 500, headers=KEY)["code"] is None
    assert not Project.objects.filter(name="Once").exists()
    assert not IdempotentRequest.objects.exists()
    owner.post("/projects", {"name": "Once"}, headers=KEY)


def test_an_empty_row_of_a_process_that_died_is_taken_over(owner: Caller, cast: Cast) -> None:
    owner.post("/projects", {"name": "Once"}, headers=KEY)
    IdempotentRequest.objects.update(status=None, body=None)
    owner.post("/projects", {"name": "Once"}, 400, headers=KEY)  # the name is taken: it ran
    assert IdempotentRequest.objects.get().status == 400


def test_rows_go_after_a_day(owner: Caller) -> None:
    owner.post("/projects", {"name": "Once"}, headers=KEY)
    with scope.for_staff():
        assert purge_requests() == 0
        IdempotentRequest.objects.update(created_at=timezone.now() - timedelta(hours=25))
        assert purge_requests() == 1


def race(count: int, work: Any) -> list[Any]:
    """Answers of ``count`` threads that begin together."""
    barrier, answers = threading.Barrier(count), [None] * count

    def run(number: int) -> None:
        try:
            barrier.wait()
            answers[number] = work(number)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_of_requests_at_once_one_does_the_work(transactional_db: None) -> None:
    cast = build_cast()
    owner = Caller(cast.owner_admin_key)
    owner.get("/projects")

    def create(number: int) -> Any:
        key = Caller(cast.owner_admin_key)
        return key.send("POST", "/admin_api_keys", {"name": "Raced"}, headers=KEY)

    answers = race(6, create)
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) <= {200, 409} and 200 in statuses
    assert ApiKey.objects.filter(name="Raced").count() == 1
    shown = [a.json()["value"] for a in answers if a.status_code == 200]
    assert len([value for value in shown if value]) == 1, "the secret is told once"
    for answer in answers:
        if answer.status_code == 409:
            assert answer.json()["error"]["code"] == "request_in_flight"
            assert answer.headers["retry-after"] == "1"


def test_control_without_a_key_each_request_does_the_work(transactional_db: None) -> None:
    cast = build_cast()
    Caller(cast.owner_admin_key).get("/projects")
    race(4, lambda _: Caller(cast.owner_admin_key).post("/admin_api_keys", {"name": "Raced"}))
    assert ApiKey.objects.filter(name="Raced").count() == 4


def test_while_one_runs_another_is_told_to_wait(transactional_db: None) -> None:
    cast = build_cast()
    owner = Caller(cast.owner_admin_key)
    owner.post("/projects", {"name": "Once"}, headers=KEY)
    IdempotentRequest.objects.update(status=None, body=None)
    row = IdempotentRequest.objects.get()
    with transaction.atomic():
        assert locks.lock_idempotent_request(row.pk) is not None
        [answer] = race(1, lambda _: owner.send("POST", "/projects", {"name": "Once"}, headers=KEY))
    assert (answer.status_code, answer.headers["retry-after"]) == (409, "1")
    assert connection.in_atomic_block is False
