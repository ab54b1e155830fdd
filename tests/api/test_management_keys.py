"""Projects, their keys, admin keys."""

from __future__ import annotations

from tests.api.management import Caller
from tests.cast import Cast


def test_a_project_is_created_read_changed_archived(owner: Caller) -> None:
    made = owner.post("/projects", {"name": "Search"})
    assert made["object"] == "organization.project"
    assert owner.get(f"/projects/{made['id']}") == made
    changed = owner.post(
        f"/projects/{made['id']}", {"name": "Find", "limits": {"requests_per_minute": 5}}
    )
    assert (changed["name"], changed["limits"]["requests_per_minute"]) == ("Find", 5)
    assert [p["name"] for p in owner.get("/projects")["data"]] == ["Default project", "Find"]
    assert owner.post(f"/projects/{made['id']}/archive")["status"] == "archived"
    assert len(owner.get("/projects")["data"]) == 1
    assert len(owner.get("/projects?include_archived=true")["data"]) == 2


def test_admin_and_project_keys(owner: Caller, cast: Cast) -> None:
    new = owner.post("/admin_api_keys", {"name": "CI", "scopes": ["project.read"]})
    small = Caller(new["value"])
    small.get("/projects")
    assert small.get("/users", 403)["code"] == "insufficient_permissions"
    project = f"/projects/{cast.project.public_id}"
    key = owner.post(f"{project}/api_keys", {"name": "App", "expires_in_seconds": 600})
    rotated = owner.post(f"{project}/api_keys/{key['id']}/rotate", {"overlap_seconds": 60})
    assert rotated["value"] != key["value"]
    assert owner.get(f"{project}/api_keys/{key['id']}")["previous_secret_expires_at"]
    owner.delete(f"{project}/api_keys/{key['id']}")
    owner.get(f"{project}/api_keys/{key['id']}", 404)
    assert [u["role"] for u in owner.get("/users")["data"]]
