"""Every resource through the official client: what its types promise is there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from django.core import mail
from pytest_django.live_server_helper import LiveServer

from tests.cast import Cast, build_cast
from tests.jobs import run_due_jobs


@pytest.fixture
def crew(transactional_db: None) -> Cast:
    return build_cast()


@pytest.fixture
def admin(crew: Cast, live_server: LiveServer) -> Iterator[Any]:
    with client(live_server, crew.owner_admin_key) as opened:
        yield opened.admin.organization


def client(server: LiveServer, key: str) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{server.url}/v1", api_key="unused", admin_api_key=key, max_retries=0
    )


def test_projects(admin: Any) -> None:
    made = admin.projects.create(name="Search")
    assert admin.projects.retrieve(made.id).name == "Search"
    assert admin.projects.update(made.id, name="Find").name == "Find"
    assert admin.projects.archive(made.id).status == "archived"
    assert [p.name for p in admin.projects.list()] == ["Default project"]
    assert len(list(admin.projects.list(include_archived=True, limit=1))) == 2
    with pytest.raises(openai.BadRequestError, match="geography"):
        admin.projects.create(name="EU", geography="EU")


def test_users_and_invites(admin: Any, crew: Cast) -> None:
    assert {u.role for u in admin.users.list(limit=2)} == {
        "owner", "admin", "developer", "billing", "reader",
    }  # fmt: skip
    assert [u.id for u in admin.users.list(emails=[crew.viewer.email])] == [crew.viewer.public_id]
    assert admin.users.update(crew.viewer.public_id, role="admin").role == "admin"
    assert admin.users.retrieve(crew.viewer.public_id).email == crew.viewer.email
    assert admin.users.delete(crew.viewer.public_id).deleted
    with pytest.raises(openai.NotFoundError):
        admin.users.retrieve(crew.viewer.public_id)
    invite = admin.invites.create(
        email="New@Example.com",
        role="reader",
        projects=[{"id": crew.project.public_id, "role": "member"}],
    )
    assert (invite.email, invite.status, invite.role) == ("new@example.com", "pending", "reader")
    assert run_due_jobs() == ["succeeded"]
    assert "/invitations/" in mail.outbox[0].body and mail.outbox[0].to == ["new@example.com"]
    assert [i.id for i in admin.invites.list()] == [invite.id]
    assert admin.invites.retrieve(invite.id).projects[0].role == "member"
    assert admin.invites.delete(invite.id).deleted
    assert list(admin.invites.list()) == []


def test_keys(admin: Any, crew: Cast) -> None:
    new = admin.admin_api_keys.create(name="CI", expires_in_seconds=600)
    assert new.value.startswith("sk-admin-") and new.expires_at
    assert admin.admin_api_keys.retrieve(new.id).owner.id == crew.owner.public_id
    assert len(list(admin.admin_api_keys.list(order="desc", limit=1))) == 2
    assert admin.admin_api_keys.delete(new.id).deleted
    project = crew.project.public_id
    [key] = list(admin.projects.api_keys.list(project))
    assert key.owner.user.email == crew.owner.email
    changed = admin.projects.api_keys.update(
        key.id, project_id=project, scopes=["models.read"], expires_in_seconds=600
    )
    assert changed.expires_at
    assert admin.projects.api_keys.retrieve(key.id, project_id=project).id == key.id
    assert list(admin.projects.api_keys.list(project, owner_project_access="inactive")) == []
    assert admin.projects.api_keys.delete(key.id, project_id=project).deleted


def test_service_accounts(admin: Any, crew: Cast) -> None:
    accounts, project = admin.projects.service_accounts, crew.project.public_id
    made = accounts.create(project, name="Robot")
    assert made.api_key.value.startswith("sk-svcacct-")
    bare = accounts.create(project, name="Bare", create_service_account_only=True)
    assert bare.api_key is None
    second = accounts.api_keys.create(bare.id, project_id=project, name="First", scopes=[])
    assert second.value.startswith("sk-svcacct-")
    assert accounts.update(bare.id, project_id=project, name="Nude").name == "Nude"
    assert [a.name for a in accounts.list(project, limit=1)] == ["Robot", "Nude"]
    assert accounts.delete(made.id, project_id=project).deleted
    assert accounts.retrieve(bare.id, project_id=project).name == "Nude"


def test_project_users(admin: Any, crew: Cast) -> None:
    users, project = admin.projects.users, crew.project.public_id
    assert users.create(project, role="member", user_id=crew.viewer.public_id).role == "member"
    assert users.create(project, role="owner", email=crew.member.email).role == "owner"
    assert users.update(crew.viewer.public_id, project_id=project, role="viewer").role == "viewer"
    assert len(list(users.list(project, limit=1))) == 2
    assert users.retrieve(crew.member.public_id, project_id=project).email == crew.member.email
    assert users.delete(crew.member.public_id, project_id=project).deleted


def test_limits_and_permissions(admin: Any, crew: Cast) -> None:
    from inference.models import Model

    for name in ("org/model-a", "model-b"):
        Model.objects.create(name=name, kind="chat")
    project = crew.project.public_id
    limits = list(admin.projects.rate_limits.list_rate_limits(project, limit=1))
    assert [limit.model for limit in limits] == ["model-b", "org/model-a"]
    changed = admin.projects.rate_limits.update_rate_limit(
        limits[1].id, project_id=project, max_requests_per_1_minute=7
    )
    assert changed.max_requests_per_1_minute == 7
    permissions = admin.projects.model_permissions
    assert permissions.retrieve(project).mode == "deny_list"
    assert (
        permissions.update(project, mode="allow_list", model_ids=["model-b"]).mode == "allow_list"
    )
    assert permissions.delete(project).deleted
    for limit, ids in ((admin.spend_limit, ()), (admin.projects.spend_limit, (project,))):
        with pytest.raises(openai.NotFoundError):
            limit.retrieve(*ids)
        set_to = limit.update(*ids, currency="USD", interval="month", threshold_amount=1234)
        assert (set_to.threshold_amount, set_to.enforcement.status) == (1234, "inactive")
        assert limit.retrieve(*ids).threshold_amount == 1234
        assert limit.delete(*ids).deleted


def test_groups_and_roles(admin: Any, crew: Cast) -> None:
    group = admin.groups.create(name="Support")
    assert admin.groups.update(group.id, name="Help").name == "Help"
    assert admin.groups.users.create(group.id, user_id=crew.viewer.public_id).user_id
    assert [u.email for u in admin.groups.users.list(group.id)] == [crew.viewer.email]
    assert admin.groups.users.retrieve(crew.viewer.public_id, group_id=group.id).name
    role = admin.roles.create(role_name="Auditor", permissions=["audit.read"])
    assert admin.roles.update(role.id, description="Reads").description == "Reads"
    given = admin.groups.roles.create(group.id, role_id=role.id)
    assert (given.role.id, given.group.id) == (role.id, group.id)
    assert [r.name for r in admin.groups.roles.list(group.id)] == ["Auditor"]
    assert admin.groups.roles.retrieve(role.id, group_id=group.id).permissions == ["audit.read"]
    assert admin.groups.roles.delete(role.id, group_id=group.id).deleted
    user = crew.member.public_id
    assert admin.users.roles.create(user, role_id=role.id).user.id == user
    assert [r.id for r in admin.users.roles.list(user)] == [role.id]
    assert admin.users.roles.delete(role.id, user_id=user).deleted
    assert admin.groups.users.delete(crew.viewer.public_id, group_id=group.id).deleted
    assert [r.id for r in admin.roles.list()] == [role.id]
    assert admin.roles.delete(role.id).deleted
    assert admin.groups.retrieve(group.id).name == "Help"
    assert [g.id for g in admin.groups.list()] == [group.id]
    assert admin.groups.delete(group.id).deleted


def test_roles_in_a_project(admin: Any, crew: Cast) -> None:
    project, user = crew.project.public_id, crew.viewer.public_id
    role = admin.projects.roles.create(project, role_name="Keys", permissions=["key.create"])
    assert role.resource_type == "api.project"
    assert admin.projects.roles.update(role.id, project_id=project, role_name="K").name == "K"
    assert [r.id for r in admin.projects.roles.list(project)] == [role.id]
    assert list(admin.roles.list()) == []
    roles = admin.projects.users.roles
    assert roles.create(user, project_id=project, role_id=role.id).role.id == role.id
    assert [r.id for r in roles.list(user, project_id=project)] == [role.id]
    assert roles.retrieve(role.id, project_id=project, user_id=user).name == "K"
    assert roles.delete(role.id, project_id=project, user_id=user).deleted
    group = admin.groups.create(name="G")
    member = admin.projects.groups.create(project, group_id=group.id, role=role.id)
    assert (member.group_name, member.project_id) == ("G", project)
    assert [g.group_id for g in admin.projects.groups.list(project)] == [group.id]
    assert admin.projects.groups.retrieve(group.id, project_id=project).group_id == group.id
    given = admin.projects.groups.roles
    assert [r.id for r in given.list(group.id, project_id=project)] == [role.id]
    assert given.delete(role.id, project_id=project, group_id=group.id).deleted
    assert given.create(group.id, project_id=project, role_id=role.id).group.id == group.id
    assert admin.projects.groups.delete(group.id, project_id=project).deleted
    assert admin.projects.roles.delete(role.id, project_id=project).deleted


def test_audit_log(admin: Any, crew: Cast) -> None:
    project = admin.projects.create(name="Traced")
    admin.users.update(crew.viewer.public_id, role="billing")
    newest, before = list(admin.audit_logs.list(limit=2))[:2]
    assert (newest.type, before.type) == ("user.updated", "project.created")
    assert before.project_created.data.title == "Traced" and before.project.name == "Traced"
    assert before.actor.api_key.id == crew.owner_admin_api_key.public_id
    found = admin.audit_logs.list(
        event_types=["project.created"],
        project_ids=[project.id],
        resource_ids=[project.id],
        actor_ids=[crew.owner_admin_api_key.public_id],
        effective_at={"gte": before.effective_at, "lte": before.effective_at},
    )
    assert [e.id for e in found] == [before.id]
    assert [e.id for e in admin.audit_logs.list(before=before.id).data] == [newest.id]
    logged = admin.audit_logs.list(actor_emails=[crew.owner.email], limit=100).data
    assert logged and {e.actor.session.user.email for e in logged} == {crew.owner.email}


def test_spend_alerts(admin: Any, crew: Cast) -> None:
    channel = {"type": "email", "recipients": ["Cfo@Example.com"], "subject_prefix": "[LLM]"}
    terms = {"currency": "USD", "interval": "month", "notification_channel": channel}
    project = crew.project.public_id
    for alerts, given in (
        (admin.spend_alerts, {}),
        (admin.projects.spend_alerts, {"project_id": project}),
    ):
        made = alerts.create(threshold_amount=1_000, **terms, **given)
        assert (made.threshold_amount, made.notification_channel.recipients) == (
            1_000,
            ["cfo@example.com"],
        )
        changed = alerts.update(made.id, threshold_amount=2_000, **terms, **given)
        assert changed.threshold_amount == 2_000
        listed = alerts.list(**given) if not given else alerts.list(project)
        assert [each.id for each in listed] == [made.id]
        assert alerts.retrieve(made.id, **given).object.endswith(".spend_alert")
        assert alerts.delete(made.id, **given).deleted
        with pytest.raises(openai.NotFoundError):
            alerts.retrieve(made.id, **given)
    with pytest.raises(openai.BadRequestError, match="no e-mail address"):
        bad = terms | {"notification_channel": channel | {"recipients": ["nobody"]}}
        admin.spend_alerts.create(threshold_amount=1, **bad)
