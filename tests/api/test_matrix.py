"""Every endpoint × every way of not being allowed, made from the URL configuration itself.

A new endpoint is here without anybody adding it; one that declares no permission (or
scope, on the token path) fails. A denial has the right status and OpenAI's error
shape, changes nothing, and tells nothing: a foreign object answers as an absent one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from django.apps import apps
from django.db import connection, transaction
from django.test import Client
from django.urls import get_resolver
from django.utils import timezone

from api.management.operation import Operation, methods_of
from api.management.unsupported import UNSUPPORTED
from api.management.view import ManagementView
from inference.models import Model
from tenants import access, actions, permissions
from tenants.models import ApiKey, Organization
from tests.cast import Cast, build_cast

# --- What there is --------------------------------------------------------------------------


def walk(patterns: list[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if hasattr(pattern, "url_patterns"):
            yield from walk(pattern.url_patterns, route)
        else:
            yield route, pattern.callback


ROUTES = list(walk(get_resolver("config.urls").url_patterns))


@dataclass(frozen=True)
class Endpoint:
    method: str
    route: str
    operation: Operation | None

    def __str__(self) -> str:
        return f"{self.method} {self.route}"

    @property
    def names(self) -> list[str]:
        return re.findall(r"<(?:\w+:)?(\w+)>", self.route)

    def path(self, ids: dict[str, str]) -> str:
        return "/" + re.sub(r"<(?:\w+:)?(\w+)>", lambda found: ids[found[1]], self.route)


def management_endpoints() -> list[Endpoint]:
    found = []
    for route, callback in ROUTES:
        view = getattr(callback, "cls", None)
        if view is not None and issubclass(view, ManagementView):
            found += [
                Endpoint(method.upper(), route, operation) for method, operation in methods_of(view)
            ]
    return found


ENDPOINTS = management_endpoints()
WITH_IDS = [endpoint for endpoint in ENDPOINTS if endpoint.names and "kind" not in endpoint.names]
UNSERVED = {f"v1/organization/{address}" for address, _ in UNSUPPORTED}
# Of which model an identifier is; one that is not here is tried with every object's.
MODELS = {
    "project_id": "Project", "user_id": "User", "account_id": "ServiceAccount",
    "group_id": "Group", "role_id": "CustomRole", "role": "CustomRole",
    "invite_id": "Invitation",
}  # fmt: skip


def test_every_route_under_the_root_is_a_view_that_declares() -> None:
    """Or one of the three that say nothing of any organization."""
    of_api = [(r, c) for r, c in ROUTES if r.lstrip("^").startswith("v1/")]
    plain = {c.__name__ for _, c in of_api if not hasattr(c, "cls")}
    assert plain == {"openapi", "unknown"}
    assert len(ENDPOINTS) > 100
    for endpoint in ENDPOINTS:
        assert endpoint.operation is not None, f"{endpoint} declares no permission"
        assert endpoint.operation.permission in permissions.ALL, endpoint


# --- A world with one of everything in each organization ---------------------------------------


@dataclass(frozen=True)
class World:
    cast: Cast
    own: dict[str, str]
    foreign: dict[str, str]
    keys: dict[str, str]
    lacking: dict[str, str]  # permission -> a key that has every other one


def objects_of(organization: Organization, user: Any) -> dict[str, str]:
    """A public id of each kind."""
    with_all = actions.create_api_key(organization, "Maker", acting_user=user)[0]
    actor = access.get_key_actor(with_all)
    project = organization.projects.get()
    account = actions.create_service_account(project, "Robot", acting_user=user)
    group = actions.create_group(organization, "Group", acting_user=user)
    role = actions.create_role(organization, "Role", ["key.read"], actor=actor)
    invitation, _ = actions.invite_member(
        organization, f"somebody@{organization.pk}.example", "viewer", actor=actor
    )
    key, _ = actions.create_api_key(project, "Key", acting_user=user)
    admin, _ = actions.create_api_key(organization, "Other admin", acting_user=user)
    return {
        "Project": project.public_id, "User": user.public_id,
        "ServiceAccount": account.public_id, "Group": group.public_id,
        "CustomRole": role.public_id, "Invitation": invitation.public_id,
        "ApiKey": key.public_id, "AdminKey": admin.public_id,
        "RateLimit": "rl-some/model",
    }  # fmt: skip


def build_world() -> World:
    cast = build_cast()
    organization, project = cast.organization, cast.project
    own = objects_of(organization, cast.owner)
    foreign = objects_of(cast.other_organization, cast.stranger)

    def admin(**terms: Any) -> tuple[ApiKey, str]:
        return actions.create_api_key(
            organization, "Admin", acting_user=cast.owner, terms=actions.KeyTerms(**terms)
        )

    revoked, suspended, expired = admin(), admin(), admin()
    actions.revoke_api_key(revoked[0], acting_user=cast.owner)
    actions.set_api_key_suspended(suspended[0], True, acting_user=cast.owner)
    ApiKey.objects.filter(pk=expired[0].pk).update(expires_at=timezone.now() - timedelta(1))
    account = actions.create_service_account(project, "Kin", acting_user=cast.owner)
    keys = {
        "malformed": "sk-admin-nonsense",
        "injected": "' OR 1=1 --",
        "unknown": cast.owner_admin_key[:-4] + "0000",
        "revoked": revoked[1],
        "suspended key": suspended[1],
        "expired": expired[1],
        "project key": cast.owner_key,
        "service account key": actions.create_api_key(account, "K", acting_user=cast.owner)[1],
        "suspended organization": cast.suspended_admin_key,
        "elsewhere": admin(allowed_networks=("203.0.113.0/24",))[1],
    }
    lacking = {
        permission: admin(scopes=tuple(permissions.ALL - {permission}))[1]
        for permission in sorted(permissions.ALL)
    }
    return World(cast, own, foreign, keys, lacking)


DENIALS = {
    None: (401, "invalid_api_key"),
    "malformed": (401, "invalid_api_key"),
    "injected": (401, "invalid_api_key"),
    "unknown": (401, "invalid_api_key"),
    "revoked": (401, "invalid_api_key"),
    "suspended key": (401, "invalid_api_key"),
    "expired": (401, "invalid_api_key"),
    "project key": (403, "insufficient_permissions"),
    "service account key": (403, "insufficient_permissions"),
    "suspended organization": (403, "organization_suspended"),
    "elsewhere": (403, "ip_not_authorized"),
}


@pytest.fixture(scope="module")
def built(django_db_setup: None, django_db_blocker: Any) -> Iterator[World]:
    """One world for the module: what is refused leaves it as it is, and each test rolls back."""
    with django_db_blocker.unblock():
        outer = transaction.atomic()
        outer._from_testcase = True
        with outer:
            yield build_world()
            transaction.set_rollback(True)


@pytest.fixture
def world(built: World, db: None, settings: Any) -> World:
    settings.MANAGEMENT_REQUESTS_PER_MINUTE = 1_000_000
    return built


def model_of(endpoint: Endpoint, name: str) -> str | None:
    if name == "key_id":
        return "AdminKey" if "admin_api_keys" in endpoint.route else "ApiKey"
    if name == "rate_limit_id":
        return "RateLimit"
    return MODELS.get(name)


def ids_of(endpoint: Endpoint, objects: dict[str, str]) -> dict[str, str]:
    return {
        name: "moderations" if name == "kind" else objects[model_of(endpoint, name) or "Group"]
        for name in endpoint.names
    }


def absent(identifier: str) -> str:
    """An identifier of the same form that nothing has."""
    return re.sub(r"[A-Za-z0-9]{16}$", "0" * 16, identifier)


def example(schema: dict[str, Any], components: dict[str, Any]) -> Any:
    """The least value that a JSON schema takes."""
    if ref := schema.get("$ref"):
        return example(components[ref.rpartition("/")[2]], components)
    if options := schema.get("anyOf"):
        return example(options[0], components)
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type")
    if kind == "object":
        wanted = schema.get("required", [])
        return {name: example(schema["properties"][name], components) for name in wanted}
    if kind == "array":
        return [example(schema["items"], components)] * schema.get("minItems", 0)
    return {"integer": schema.get("minimum", 0), "boolean": False}.get(kind, "owner")


def body_of(endpoint: Endpoint, objects: dict[str, str]) -> dict[str, Any] | None:
    """A body that is in order; what it names of other objects is of ``objects``."""
    assert endpoint.operation is not None
    if endpoint.operation.body is None:
        return None
    (schema,), components = msgspec.json.schema_components([endpoint.operation.body])
    properties = components[schema["$ref"].rpartition("/")[2]]["properties"]
    body = example(schema, components)
    for name, shape in properties.items():
        if model_of(endpoint, name) and "A-Za-z0-9_.:" in json.dumps(shape):
            body[name] = objects[model_of(endpoint, name) or ""]
    if "email" in body:
        body["email"] = "matrix@example.com"
    if "role" in body and "project" not in endpoint.route:
        body["role"] = "viewer"
    if "role_id" in body:
        body.pop("role", None)
    return body


def names_objects(endpoint: Endpoint) -> bool:
    assert endpoint.operation is not None
    if endpoint.operation.body is None:
        return False
    (schema,), components = msgspec.json.schema_components([endpoint.operation.body])
    properties = components[schema["$ref"].rpartition("/")[2]]["properties"]
    return any(
        model_of(endpoint, name) and "A-Za-z0-9_.:" in json.dumps(shape)
        for name, shape in properties.items()
    )


def send(endpoint: Endpoint, key: str | None, ids: dict[str, str], body: Any) -> Any:
    assert endpoint.operation is not None
    query = {"start_time": "0"} if "usage" in endpoint.route or "costs" in endpoint.route else {}
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    content = b"" if body is None else json.dumps(body).encode()
    path = endpoint.path(ids) + ("?start_time=0" if query else "")
    return Client().generic(
        endpoint.method, path, content, content_type="application/json", headers=headers
    )


def told(response: Any) -> tuple[Any, ...]:
    """Everything of an answer that a client can see, without what differs each time."""
    moving = {"x-request-id", "openai-processing-ms"}
    headers = sorted((n, v) for n, v in response.headers.items() if n.lower() not in moving)
    return response.status_code, response.content, headers


def error_of(response: Any) -> dict[str, Any]:
    answer = response.json()
    assert set(answer) == {"error"}
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert "Traceback" not in answer["error"]["message"]
    return dict(answer["error"])


ROOMS = ("tenants", "billing", "inference")


def row_counts() -> dict[str, int]:
    """Rows of every table; where a key was used from is written by using it."""
    tables = [
        model._meta.db_table
        for room in ROOMS
        for model in apps.get_app_config(room).get_models()
        if model.__name__ != "ApiKeyAddress"
    ]
    counts = ", ".join(f"(SELECT count(*) FROM {table})" for table in tables)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {counts}")
        return dict(zip(tables, cursor.fetchone(), strict=True))


# --- The matrix ----------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=str)
def test_who_may_not_is_refused_and_nothing_changes(world: World, endpoint: Endpoint) -> None:
    ids, body = ids_of(endpoint, world.own), body_of(endpoint, world.own)
    assert endpoint.operation is not None
    before = row_counts()
    for reason, (status, code) in DENIALS.items():
        response = send(endpoint, world.keys.get(reason or ""), ids, body)
        assert (response.status_code, error_of(response)["code"]) == (status, code), reason
        assert ("www-authenticate" in response.headers) == (status == 401)
    response = send(endpoint, world.lacking[endpoint.operation.permission], ids, body)
    assert response.status_code == 403, response.content
    assert error_of(response)["code"] == "insufficient_permissions"
    assert row_counts() == before


@pytest.mark.parametrize("endpoint", WITH_IDS, ids=str)
def test_a_foreign_object_answers_as_an_absent_one(world: World, endpoint: Endpoint) -> None:
    body, before = body_of(endpoint, world.own), row_counts()
    own = ids_of(endpoint, world.own)
    for name in endpoint.names:
        kind = model_of(endpoint, name)
        candidates = [world.foreign[kind]] if kind else list(world.foreign.values())
        if kind == "RateLimit":  # named after a model, which belongs to nobody
            continue
        for foreign in candidates:
            answers = [
                told(send(endpoint, world.cast.owner_admin_key, own | {name: identifier}, body))
                for identifier in (foreign, absent(foreign))
            ]
            assert answers[0] == answers[1]
            assert answers[0][0] == 404
    assert row_counts() == before


@pytest.mark.parametrize("endpoint", WITH_IDS, ids=str)
def test_another_organizations_admin_finds_nothing(world: World, endpoint: Endpoint) -> None:
    if endpoint.names == ["rate_limit_id"]:
        return
    body, before = body_of(endpoint, world.foreign), row_counts()
    response = send(endpoint, world.cast.stranger_admin_key, ids_of(endpoint, world.own), body)
    assert response.status_code == 404, response.content
    assert row_counts() == before


@pytest.mark.parametrize("endpoint", [e for e in ENDPOINTS if names_objects(e)], ids=str)
def test_a_foreign_object_in_a_body_is_absent_too(world: World, endpoint: Endpoint) -> None:
    ids, before = ids_of(endpoint, world.own), row_counts()
    foreign = body_of(endpoint, world.foreign)
    nothing = body_of(endpoint, {kind: absent(text) for kind, text in world.foreign.items()})
    answers = [
        told(send(endpoint, world.cast.owner_admin_key, ids, body)) for body in (foreign, nothing)
    ]
    assert answers[0] == answers[1]
    assert answers[0][0] == 404
    assert row_counts() == before


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=str)
def test_whoever_may_is_not_refused(world: World, endpoint: Endpoint) -> None:
    """The control: with the permission, the same requests are not denied."""
    Model.objects.create(name="some/model", kind="chat")
    response = send(
        endpoint,
        world.cast.owner_admin_key,
        ids_of(endpoint, world.own),
        body_of(endpoint, world.own),
    )
    assert response.status_code in (200, 400, 404), response.content
    if endpoint.route in UNSERVED:
        assert error_of(response)["code"] == "unsupported_endpoint"
    elif response.status_code != 200:
        # Not assigned, not invited, an owner that must stay: of this world, not of the key.
        assert error_of(response)["code"] in ("not_found", "invalid_value")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "HEAD", "TRACE"])
def test_other_methods_are_refused(world: World, method: str) -> None:
    for endpoint in ENDPOINTS:
        path = endpoint.path(ids_of(endpoint, world.own))
        assert Client().generic(method, path).status_code == 401, endpoint
    response = Client().generic(
        method, "/v1/organization/users",
        headers={"Authorization": f"Bearer {world.cast.owner_admin_key}"},
    )  # fmt: skip
    assert response.status_code == 405 and response.headers["allow"]


# --- Portal pages of an organization -----------------------------------------------------------

PAGES = [
    route
    for route, callback in ROUTES
    if "<str:organization_id>" in route and not route.startswith("admin/")
]


@pytest.mark.parametrize("route", PAGES)
def test_a_page_of_an_organization_is_its_members_only(world: World, route: str) -> None:
    def path(organization: str) -> str:
        filled = route.replace("<str:organization_id>", organization)
        filled = re.sub(r"<int:\w+>", "999999999", filled)
        return "/" + re.sub(r"<(?:\w+:)?(\w+)>", "nothing_0000000000000000", filled)

    own = world.cast.organization.public_id
    assert Client().get(path(own)).status_code in (302, 405)
    stranger = Client()
    stranger.force_login(world.cast.stranger)
    before = row_counts()
    for method in ("get", "post"):
        answers = [getattr(stranger, method)(path(name)) for name in (own, absent(own))]
        assert {answer.status_code for answer in answers} <= {404, 405}, route
        bodies = [_without_tokens(answer.content) for answer in answers]
        assert bodies[0].replace(own, "") == bodies[1].replace(absent(own), "")
    assert row_counts() == before


def _without_tokens(html: bytes) -> str:
    return re.sub(r'csrfmiddlewaretoken" value="[^"]+"', "", html.decode())
