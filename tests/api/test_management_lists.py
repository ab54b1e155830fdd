"""Lists by cursor: whole, in order, stable, and at the same cost however long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tenants import access, actions
from tenants.models import GroupMember, Membership, Project, Role
from tests.api.management import Caller
from tests.cast import Cast, make_user


def pages(
    caller: Caller, path: str, limit: int, after_first: Callable[[], Any] | None = None
) -> list[Any]:
    """Every item, page by page, as a client walks; something may happen after the first."""
    found, after = [], ""
    while True:
        mark = "&" if "?" in path else "?"
        page = caller.get(f"{path}{mark}limit={limit}{after}")
        assert page["object"] == "list" and len(page["data"]) <= limit
        found += page["data"]
        if after_first is not None:
            after_first()
            after_first = None
        if not page["has_more"]:
            assert page["next"] is None
            return found
        assert page["next"] == page["last_id"]
        after = f"&after={page['last_id']}"


def fill(cast: Cast, count: int) -> None:
    """``count`` more of everything that is listed."""
    actor = access.get_key_actor(cast.owner_admin_api_key)
    group = actions.create_group(cast.organization, f"First{count}", acting_user=cast.owner)
    for number in range(count):
        name = f"N{count}-{number}"
        project = actions.create_project(cast.organization, name, acting_user=cast.owner)
        user = make_user(name.lower())
        Membership.objects.create(organization=cast.organization, user=user, role=Role.VIEWER)
        actions.create_api_key(cast.organization, name, acting_user=cast.owner)
        actions.create_api_key(cast.project, name, acting_user=user)
        actions.create_service_account(cast.project, name, acting_user=user)
        actions.add_project_member(cast.project, user, "member", acting_user=cast.owner)
        own = actions.create_group(cast.organization, name, acting_user=user)
        role = actions.create_role(cast.organization, name, ["key.read"], actor=actor)
        actions.assign_role(role, cast.member, actor=actor)
        actions.assign_role(role, own, project=cast.project, actor=actor)
        actions.invite_member(cast.organization, f"{name}@x.example", "viewer", actor=actor)
        GroupMember.objects.create(organization=cast.organization, group=group, user=user)
        assert project.pk


def lists(cast: Cast) -> list[str]:
    project = f"/projects/{cast.project.public_id}"
    group = cast.organization.groups.order_by("pk")[0].public_id
    return [
        "/projects", "/users", "/invites", "/groups", "/roles", "/admin_api_keys", "/audit_logs",
        f"{project}/users", f"{project}/api_keys", f"{project}/service_accounts",
        f"{project}/groups", f"{project}/rate_limits", f"/users/{cast.member.public_id}/roles",
        f"/groups/{group}/users",
    ]  # fmt: skip


def test_each_list_comes_whole_in_pages_of_any_size(owner: Caller, cast: Cast) -> None:
    fill(cast, 5)
    for path in lists(cast):
        whole = pages(owner, path, 100)
        assert pages(owner, path, 2) == whole, path
        ids = [item.get("id") or item["group_id"] for item in whole]
        assert len(set(ids)) == len(ids) and (len(ids) >= 5 or "rate_limits" in path)


def test_queries_do_not_grow_with_the_list(owner: Caller, cast: Cast) -> None:
    fill(cast, 2)
    for path in lists(cast):
        owner.get(path)
    counted = {}
    for rows in (2, 12):
        for path in lists(cast):
            with CaptureQueriesContext(
                connection,
            ) as queries:
                owner.get(f"{path}?limit=100")
            counted.setdefault(path, []).append(len(queries))
        fill(cast, rows + 5)
    assert all(few == many for few, many in counted.values()), counted
    # Two to authenticate, one for the list, and what the path names.
    assert max(few for few, _ in counted.values()) <= 5, counted


def test_rows_added_meanwhile_move_nothing(owner: Caller, cast: Cast) -> None:
    fill(cast, 6)
    before = [project["id"] for project in pages(owner, "/projects", 100)]

    def insert() -> None:
        actions.create_project(cast.organization, "AAA first by name", acting_user=None)
        actions.archive_project(Project.objects.get(public_id=before[1]), acting_user=None)

    walked = [project["id"] for project in pages(owner, "/projects", 2, insert)]
    assert walked[:-1] == before and len(set(walked)) == len(walked)


def test_the_audit_log_is_walked_backwards_while_it_grows(owner: Caller, cast: Cast) -> None:
    fill(cast, 3)
    before = [event["id"] for event in pages(owner, "/audit_logs", 100)]
    fill_more = lambda: actions.create_project(cast.organization, "More", acting_user=None)  # noqa: E731
    assert [event["id"] for event in pages(owner, "/audit_logs", 2, fill_more)] == before
    newer = owner.get(f"/audit_logs?before={before[0]}")
    assert [event["type"] for event in newer["data"]] == ["project.created"]


def test_order_and_bounds(owner: Caller, cast: Cast) -> None:
    fill(cast, 3)
    up = [key["id"] for key in pages(owner, "/admin_api_keys?order=asc", 2)]
    assert [key["id"] for key in pages(owner, "/admin_api_keys?order=desc", 2)] == up[::-1]
    for limit in ("0", "101", "-1", "x", ""):
        assert owner.get(f"/projects?limit={limit}", 400)["param"] == "limit"
    assert len(owner.get("/groups?limit=1000")["data"]) == 4


def test_a_foreign_cursor_is_an_absent_one(owner: Caller, cast: Cast) -> None:
    foreign = cast.other_project.public_id
    answers = [owner.get(f"/projects?after={name}", 400) for name in (foreign, "proj_nothing")]
    assert answers[0] == answers[1] and answers[0]["param"] == "after"


def test_foreign_ids_in_filters_find_nothing(owner: Caller, cast: Cast) -> None:
    for query in (
        f"/audit_logs?project_ids[]={cast.other_project.public_id}",
        f"/audit_logs?actor_ids[]={cast.stranger.public_id}",
        f"/audit_logs?actor_emails[]={cast.stranger.email}",
        f"/users?emails[]={cast.stranger.email}",
    ):
        assert owner.get(query)["data"] == []


@pytest.mark.parametrize("staff_address", ["staff@example.com"])
def test_staff_are_not_told_by_name(owner: Caller, cast: Cast, staff_address: str) -> None:
    from tenants import scope

    with scope.for_staff():
        actions.update_organization(cast.organization, {"name": "B"}, acting_user=cast.staff)
    [event] = owner.get("/audit_logs?limit=1")["data"]
    assert (event["type"], event["actor"]["type"]) == ("organization.updated", "staff")
    assert cast.staff.public_id not in str(event) and staff_address not in str(event)
    assert owner.get(f"/audit_logs?actor_emails[]={staff_address}")["data"] == []
