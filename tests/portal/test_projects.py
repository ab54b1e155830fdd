"""Projects on the pages: who sees, makes, changes and archives them, and who works in them."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from inference.models import Model
from tenants import actions
from tenants.models import (
    AuditEvent,
    Project,
    ProjectMembership,
    ProjectModelLimit,
    ServiceAccount,
)
from tests.cast import Cast
from tests.portal.conftest import log_in

pytestmark = pytest.mark.django_db


def projects_url(cast: Cast, path: str = "") -> str:
    return f"/o/{cast.organization.public_id}/projects/{path}"


def project_url(cast: Cast, path: str = "", project: Project | None = None) -> str:
    return projects_url(cast, f"{(project or cast.project).public_id}/{path}")


def everything(cast: Cast) -> list[Any]:
    """What a refused attempt must leave as it was."""
    models = (Project, ProjectModelLimit, ProjectMembership, ServiceAccount)
    return [list(model.objects.order_by("pk").values()) for model in models]


@pytest.mark.parametrize("who", ["owner", "admin"])
def test_create_change_archive(cast: Cast, who: str) -> None:
    Model.objects.create(name="smol", kind=Model.Kind.CHAT)
    Model.objects.create(name="large", kind=Model.Kind.CHAT)
    client = log_in(getattr(cast, who))
    made = client.post(projects_url(cast, "new/"), {"name": "Search"})
    project = Project.objects.get(name="Search")
    assert made["Location"] == project_url(cast, project=project)
    edit = {"name": "Search 2", "allowed_models": ["smol"], "denied_models": ["large"]}
    assert client.post(project_url(cast, "edit/", project), edit).status_code == 302
    limits = {"requests_per_minute": "60", "monthly_budget_micros": "99.5"}
    assert client.post(project_url(cast, "limits/", project), limits).status_code == 302
    model = {"model": "smol", "tokens_per_minute": "1000"}
    assert client.post(project_url(cast, "model-limits/", project), model).status_code == 302
    page = client.get(project_url(cast, project=project)).content.decode()
    for shown in ("Search 2", "smol", "large", "$99.50", "Tokens a minute 1,000"):
        assert shown in page
    project.refresh_from_db()
    assert (project.requests_per_minute, project.monthly_budget_micros) == (60, 99_500_000)
    event = AuditEvent.objects.filter(action="project.updated").first()
    assert event.before["requests_per_minute"] is None
    assert event.acting_user == getattr(cast, who)

    key, _ = actions.create_api_key(project, "Crawler", acting_user=cast.owner)
    archive = project_url(cast, "archive/", project)
    assert "Keys that stop working</dt><dd>1<" in client.get(archive).content.decode()
    assert client.post(archive, {"typed": "Search"}).status_code == 400
    project.refresh_from_db()
    assert project.archived_at is None
    assert client.post(archive, {"typed": "Search 2"})["Location"] == projects_url(cast)
    project.refresh_from_db()
    assert project.archived_at is not None
    listed = client.get(projects_url(cast)).context["projects"].rows
    assert project not in listed and cast.project in listed
    assert "Search 2" in client.get(projects_url(cast), {"state": "archived"}).content.decode()
    shown = client.get(project_url(cast, project=project))
    assert "Archived" in shown.content.decode()
    assert "/edit/" not in shown.content.decode()
    assert client.post(project_url(cast, "edit/", project), edit).status_code == 404


WRITES: dict[str, dict[str, Any]] = {
    "edit/": {"name": "Theirs"},
    "limits/": {"requests_per_minute": "1"},
    "model-limits/": {"model": "smol", "tokens_per_minute": "1"},
    "members/add/": {"email": "viewer@example.com", "role": "owner"},
    "service-accounts/new/": {"name": "Theirs"},
    "archive/": {"typed": "Default project"},
}


@pytest.mark.parametrize("who", ["member", "billing", "viewer"])
def test_others_look_and_change_nothing(cast: Cast, who: str) -> None:
    Model.objects.create(name="smol", kind=Model.Kind.CHAT)
    account = actions.create_service_account(cast.project, "Indexer", acting_user=cast.owner)
    actions.add_project_member(cast.project, cast.admin, "viewer", acting_user=cast.owner)
    client = log_in(getattr(cast, who))
    assert "/projects/new/" not in client.get(projects_url(cast)).content.decode()
    page = client.get(project_url(cast))
    assert page.status_code == 200
    before = everything(cast)
    people = f"members/{cast.admin.public_id}/"
    writes = WRITES | {
        people: {"role": "owner"},
        f"{people}remove/": {},
        f"service-accounts/{account.public_id}/delete/": {},
    }
    for path, form in writes.items():
        assert project_url(cast, path) not in page.content.decode()
        assert client.get(project_url(cast, path)).status_code == 403, path
        assert client.post(project_url(cast, path), form).status_code == 403, path
    assert client.post(projects_url(cast, "new/"), {"name": "Theirs"}).status_code == 403
    assert everything(cast) == before


def test_a_stranger_finds_no_project(cast: Cast) -> None:
    client = log_in(cast.stranger)
    before = everything(cast)
    mine = f"/o/{cast.other_organization.public_id}/projects/{cast.project.public_id}/"
    for path, form in WRITES.items():
        assert client.post(project_url(cast, path), form).status_code == 404
        assert client.post(mine + path, form).status_code == 404
    assert client.get(mine).status_code == 404
    assert everything(cast) == before


def test_people_of_a_project(cast: Cast) -> None:
    client = log_in(cast.admin)
    add = {"email": "VIEWER@example.com", "role": "member"}
    assert client.post(project_url(cast, "members/add/"), add).status_code == 302
    assert client.post(project_url(cast, "members/add/"), add).status_code == 400
    stranger = {"email": cast.stranger.email, "role": "member"}
    assert client.post(project_url(cast, "members/add/"), stranger).status_code == 400
    person = f"members/{cast.viewer.public_id}/"
    assert client.post(project_url(cast, person), {"role": "owner"}).status_code == 302
    member = ProjectMembership.objects.get(project=cast.project)
    assert (member.user, member.role) == (cast.viewer, "owner")
    assert "Project owner" in client.get(project_url(cast)).content.decode()
    assert client.post(project_url(cast, person + "remove/")).status_code == 302
    assert not ProjectMembership.objects.filter(project=cast.project).exists()
    absent = f"members/{cast.stranger.public_id}/"
    assert client.post(project_url(cast, absent), {"role": "owner"}).status_code == 404


def test_nobody_gives_a_project_role_beyond_their_own(cast: Cast) -> None:
    """A custom role that manages members must not make project owners, itself included."""
    role = actions.create_role(
        cast.organization,
        "Doorkeeper",
        ["project_member.manage"],
        actor=_actor(cast),
    )
    actions.assign_role(role, cast.viewer, actor=_actor(cast))
    actions.add_project_member(cast.project, cast.member, "owner", acting_user=cast.owner)
    client = log_in(cast.viewer)
    before = everything(cast)
    for email in (cast.viewer.email, cast.billing.email):
        form = {"email": email, "role": "owner"}
        assert client.post(project_url(cast, "members/add/"), form).status_code == 403
    person = f"members/{cast.member.public_id}/"
    assert client.post(project_url(cast, person), {"role": "viewer"}).status_code == 403
    assert client.post(project_url(cast, person + "remove/")).status_code == 403
    assert everything(cast) == before
    viewer = {"email": cast.billing.email, "role": "viewer"}
    assert client.post(project_url(cast, "members/add/"), viewer).status_code == 302


def _actor(cast: Cast) -> Any:
    from tenants import access

    return access.get_actor(cast.organization.memberships.get(user=cast.owner))


def test_a_project_owner_manages_that_project_alone(cast: Cast) -> None:
    other = actions.create_project(cast.organization, "Search", acting_user=cast.owner)
    actions.add_project_member(cast.project, cast.viewer, "owner", acting_user=cast.owner)
    client = log_in(cast.viewer)
    limits = {"requests_per_minute": "7"}
    assert client.post(project_url(cast, "limits/"), limits).status_code == 302
    assert client.post(project_url(cast, "limits/", other), limits).status_code == 403
    assert client.post(projects_url(cast, "new/"), {"name": "More"}).status_code == 403
    other.refresh_from_db()
    assert other.requests_per_minute is None


def test_service_accounts_and_their_keys(cast: Cast) -> None:
    client = log_in(cast.owner)
    made = client.post(project_url(cast, "service-accounts/new/"), {"name": "Indexer"})
    account = ServiceAccount.objects.get()
    assert made["Location"].endswith(f"/keys/new/?owner={account.public_id}")
    form = client.get(made["Location"]).context["form"]
    assert form["owner"].value() == account.public_id
    key, _ = actions.create_api_key(account, "Nightly", acting_user=cast.owner)
    assert "Nightly" in client.get(project_url(cast)).content.decode()
    delete = project_url(cast, f"service-accounts/{account.public_id}/delete/")
    assert "Keys that stop working</dt><dd>1<" in client.get(delete).content.decode()
    assert client.post(delete).status_code == 302
    key.refresh_from_db()
    assert not key.is_live
    assert client.post(delete).status_code == 404


@pytest.mark.parametrize(
    ("path", "form", "field"),
    [
        ("new/", {"name": ""}, "name"),
        ("new/", {"name": "Default project"}, "name"),
        ("new/", {"name": "a\nb"}, "name"),
    ],
)
def test_bad_names_make_no_project(cast: Cast, path: str, form: Any, field: str) -> None:
    before = everything(cast)
    answer = log_in(cast.owner).post(projects_url(cast, path), form)
    assert answer.status_code == 400
    assert list(answer.context["form"].errors) == [field]
    assert everything(cast) == before


def test_a_model_is_not_both_allowed_and_denied(cast: Cast) -> None:
    Model.objects.create(name="smol", kind=Model.Kind.CHAT)
    form = {"name": "Default project", "allowed_models": ["smol"], "denied_models": ["smol"]}
    answer = log_in(cast.owner).post(project_url(cast, "edit/"), form)
    assert "Both allowed and denied: smol" in answer.content.decode()
    cast.project.refresh_from_db()
    assert cast.project.allowed_models == []


def test_lists_cost_the_same_for_many_rows(cast: Cast) -> None:
    client = log_in(cast.owner)
    client.get(projects_url(cast))

    def queries(url: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(url).status_code == 200
        return len(captured)

    def fill(number: int) -> None:
        actions.create_project(cast.organization, f"Project {number}", acting_user=cast.owner)
        account = actions.create_service_account(
            cast.project, f"Account {number}", acting_user=cast.owner
        )
        actions.create_api_key(account, f"Key {number}", acting_user=cast.owner)
        actions.create_api_key(cast.project, f"Own {number}", acting_user=cast.owner)

    fill(0)
    actions.add_project_member(cast.project, cast.admin, "member", acting_user=cast.owner)
    few = [queries(projects_url(cast)), queries(project_url(cast))]
    for number in range(1, 15):
        fill(number)
    actions.add_project_member(cast.project, cast.viewer, "member", acting_user=cast.owner)
    assert [queries(projects_url(cast)), queries(project_url(cast))] == few
    # Beside session, user, membership and the frame's three: count, projects; project, limits of
    # models, keys, accounts, their keys, members, and one that asks whether there are any.
    assert few == [8, 13]
