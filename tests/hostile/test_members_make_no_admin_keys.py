"""CVE-2026-47101: a plain member called the admin routes and made themselves a key there.

Every way to make or widen a key, tried by everybody who may not.
"""

from __future__ import annotations

from typing import Any

import pytest

from tenants import access, actions, permissions
from tenants.errors import TenantError
from tenants.models import ApiKey, Membership, Role
from tests.api.management import Caller
from tests.cast import Cast
from tests.portal.conftest import log_in

pytestmark = pytest.mark.django_db


def keys_now() -> list[tuple[Any, ...]]:
    columns = ("pk", "kind", "scopes", "lookup", "revoked_at", "suspended_at", "allowed_networks")
    return list(ApiKey.objects.order_by("pk").values_list(*columns))


def writes(cast: Cast) -> dict[str, Any]:
    """What would make a key, or make one that there is more than it was."""
    project = f"/projects/{cast.project.public_id}"
    key = f"{project}/api_keys/{cast.owner_api_key.public_id}"
    return {
        "/admin_api_keys": {"name": "mine"},
        f"{project}/api_keys": {"name": "mine"},
        f"{project}/service_accounts": {"name": "mine"},
        key: {"name": "mine", "scopes": []},
        f"{key}/rotate": {},
        "/users/" + cast.member.public_id: {"role": "owner"},
        "/invites": {"email": "accomplice@example.com", "role": "owner"},
        "/roles": {"role_name": "all", "permissions": sorted(permissions.ALL)},
    }


@pytest.mark.parametrize("kind", ["project", "service_account"])
def test_keys_that_infer_manage_nothing(cast: Cast, kind: str) -> None:
    secret = cast.owner_key
    if kind == "service_account":
        account = actions.create_service_account(cast.project, "robot", acting_user=cast.owner)
        secret = actions.create_api_key(account, "its", acting_user=cast.owner)[1]
    before = keys_now()
    for path, body in writes(cast).items():
        assert Caller(secret).send("POST", path, body).status_code == 403, path
    assert keys_now() == before


def test_an_admin_key_makes_none_that_may_more_than_itself(cast: Cast, owner: Caller) -> None:
    few = ["admin_key.manage", "project.read", "member.manage"]
    small = Caller(owner.post("/admin_api_keys", {"name": "small", "scopes": few})["value"])
    before = keys_now()
    for scopes in (["key.create"], [*few, "audit.read"], sorted(permissions.ALL), []):
        small.post("/admin_api_keys", {"name": "more", "scopes": scopes}, 403)
    for path, body in writes(cast).items():
        if path != "/admin_api_keys":
            assert small.send("POST", path, body).status_code == 403, path
    assert keys_now() == before
    assert small.post("/admin_api_keys", {"name": "less", "scopes": few[:1]})["scopes"] == few[:1]
    # Saying nothing of scopes asks for no more than one has.
    assert small.post("/admin_api_keys", {"name": "as much"})["scopes"] == sorted(few)


@pytest.mark.parametrize("role", [Role.DEVELOPER, Role.VIEWER, Role.BILLING])
def test_no_page_gives_a_member_an_admin_key(cast: Cast, role: Role) -> None:
    Membership.objects.filter(user=cast.member).update(role=role)
    base = f"/o/{cast.organization.public_id}/"
    client, before = log_in(cast.member), keys_now()
    form = {"name": "mine", "kind": "admin", "scopes": ["admin_key.manage"]}
    for path in ("settings/admin-keys/new/", f"keys/{cast.owner_admin_api_key.public_id}/rotate/",
                 f"keys/{cast.owner_admin_api_key.public_id}/edit/"):  # fmt: skip
        assert client.post(base + path, form).status_code in (403, 404), path
    for path in ("/admin/", "/admin/tenants/apikey/", "/admin/tenants/apikey/add/"):
        assert client.get(path).status_code in (302, 403), path
    # A session is no key.
    for path in ("/v1/organization/admin_api_keys", "/v1/organization/projects"):
        assert client.get(path).status_code == 401
    assert keys_now() == before


@pytest.mark.parametrize("role", [Role.DEVELOPER, Role.VIEWER, Role.BILLING, Role.ADMIN])
def test_nobody_invites_or_becomes_more_than_they_are(cast: Cast, role: Role) -> None:
    Membership.objects.filter(user=cast.member).update(role=role)
    membership = Membership.objects.select_related("organization").get(user=cast.member)
    actor = access.get_actor(membership)
    tries = (
        lambda: actions.invite_member(cast.organization, "a@example.com", Role.OWNER, actor=actor),
        lambda: actions.change_member_role(membership, Role.OWNER, actor=actor),
    )
    for attempt in tries:
        with pytest.raises(TenantError) as refusal:
            attempt()
        assert refusal.value.status == 403
    assert Membership.objects.get(user=cast.member).role == role
