"""No key gives, makes or keeps more than it has."""

from __future__ import annotations

from typing import Any

import pytest

from tenants import actions, permissions
from tenants.models import ApiKey, AuditEvent, Membership, RoleAssignment
from tests.api.management import Caller
from tests.cast import Cast


def limited(owner: Caller, *scopes: str) -> Caller:
    return Caller(owner.post("/admin_api_keys", {"name": "L", "scopes": list(scopes)})["value"])


def test_a_key_makes_no_key_above_itself(owner: Caller) -> None:
    small = limited(owner, "admin_key.manage", "project.read")
    for scopes in (["billing.manage"], ["project.read", "audit.read"], []):
        error = small.post("/admin_api_keys", {"name": "Up", "scopes": scopes}, 403)
        assert error["code"] == "insufficient_permissions"
    assert not ApiKey.objects.filter(name="Up").exists()
    same = small.post("/admin_api_keys", {"name": "Same"})
    assert sorted(same["scopes"]) == ["admin_key.manage", "project.read"]
    assert owner.post("/admin_api_keys", {"name": "X", "scopes": ["no.such"]}, 400)["param"] == (
        "scopes"
    )


def test_a_key_takes_over_no_key_above_itself(owner: Caller, cast: Cast) -> None:
    """Rotating shows a secret: a way up, were it allowed."""
    small = limited(owner, "admin_key.manage")
    above = f"/admin_api_keys/{cast.owner_admin_api_key.public_id}"
    small.post(f"{above}/rotate", {}, 403)
    small.post(above, {"scopes": ["admin_key.manage"]}, 403)
    small.delete(above, 403)
    mine = small.post("/admin_api_keys", {"name": "Mine"})
    small.post(f"/admin_api_keys/{mine['id']}", {"scopes": []}, 403)
    small.post(f"/admin_api_keys/{mine['id']}", {"name": "Still mine"})
    small.delete(f"/admin_api_keys/{mine['id']}")
    cast.owner_admin_api_key.refresh_from_db()
    assert cast.owner_admin_api_key.is_live and cast.owner_admin_api_key.rotated_at is None


def test_a_key_makes_nobody_more_than_itself(owner: Caller, cast: Cast) -> None:
    scopes = permissions.ALL - {"billing.manage"}
    admin = limited(owner, *scopes)
    admin.post(f"/users/{cast.viewer.public_id}", {"role": "owner"}, 403)
    admin.post(f"/users/{cast.owner.public_id}", {"role": "viewer"}, 403)
    admin.delete(f"/users/{cast.owner.public_id}", 403)
    admin.post("/invites", {"email": "o@example.com", "role": "owner"}, 403)
    admin.post("/roles", {"role_name": "R", "permissions": ["billing.manage"]}, 403)
    role = owner.post("/roles", {"role_name": "R", "permissions": ["billing.manage"]})
    admin.post(f"/users/{cast.viewer.public_id}/roles", {"role_id": role["id"]}, 403)
    admin.post(f"/users/{cast.viewer.public_id}", {"role_id": role["id"]}, 403)
    group = owner.post("/groups", {"name": "G"})["id"]
    owner.post(f"/groups/{group}/roles", {"role_id": role["id"]})
    admin.post(f"/groups/{group}/users", {"user_id": cast.viewer.public_id}, 403)
    admin.delete(f"/groups/{group}", 403)
    assert not RoleAssignment.objects.filter(user=cast.viewer).exists()
    assert Membership.objects.get(user=cast.owner).role == "owner"


def test_the_last_owner_stays(owner: Caller, cast: Cast) -> None:
    owner.delete(f"/users/{cast.owner.public_id}", 400)
    owner.post(f"/users/{cast.owner.public_id}", {"role": "reader"}, 400)


def test_what_a_key_makes_ends_with_its_maker(owner: Caller, cast: Cast) -> None:
    """Or whoever leaves would stay by the keys that their key made."""
    owner.post(f"/users/{cast.admin.public_id}", {"role": "owner"})
    key, secret = actions.create_api_key(cast.organization, "A", acting_user=cast.admin)
    made = Caller(secret).post("/admin_api_keys", {"name": "Second"})
    assert made["owner"]["id"] == cast.admin.public_id
    owner.delete(f"/users/{cast.admin.public_id}")
    for text in (secret, made["value"]):
        assert Caller(text).get("/projects", 401)["code"] == "invalid_api_key"
    assert key.pk


def test_events_name_the_key_and_its_address(owner: Caller, cast: Cast) -> None:
    owner.post("/projects", {"name": "Traced"})
    event = AuditEvent.objects.get(action="project.created", after__name="Traced")
    assert (event.actor_type, event.acting_key) == ("api_key", cast.owner_admin_api_key)
    assert event.address == "127.0.0.1"


def test_a_new_address_of_a_key_is_noticed(owner: Caller) -> None:
    owner.get("/projects")
    owner.get("/projects", REMOTE_ADDR="203.0.113.9")
    found = AuditEvent.objects.get(action="api_key.used_from_new_address")
    assert found.address == "203.0.113.9"


def test_old_secret_works_until_its_overlap_ends(owner: Caller) -> None:
    made = owner.post("/admin_api_keys", {"name": "Turning"})
    rotated = owner.post(f"/admin_api_keys/{made['id']}/rotate", {"overlap_seconds": 60})
    for secret in (made["value"], rotated["value"]):
        Caller(secret).get("/projects")
    owner.post(f"/admin_api_keys/{made['id']}/rotate", {"overlap_seconds": 0})
    for secret in (made["value"], rotated["value"]):
        Caller(secret).get("/projects", 401)


def test_key_terms_are_kept_where_nothing_is_said(owner: Caller, cast: Cast) -> None:
    keys = f"/projects/{cast.project.public_id}/api_keys"
    terms = {
        "scopes": ["models.read"], "allowed_models": ["a"], "allowed_networks": ["10.0.0.0/8"],
        "expires_in_seconds": 900, "limits": {"requests_per_minute": 3, "tokens_per_day": 2**40},
    }  # fmt: skip
    made = owner.post(keys, {"name": "K", **terms})
    changed = owner.post(f"{keys}/{made['id']}", {"limits": {"requests_per_minute": None}})
    assert changed["limits"] == made["limits"] | {"requests_per_minute": None}
    for field in ("scopes", "allowed_models", "allowed_networks", "expires_at", "name"):
        assert changed[field] == made[field]
    assert owner.post(f"{keys}/{made['id']}", {"expires_in_seconds": None})["expires_at"] is None
    owner.post(f"{keys}/{made['id']}", {"allowed_networks": ["10.0.0.1/8"]}, 400)


def test_a_spend_limit_never_raises_the_plans_budget(owner: Caller, cast: Cast) -> None:
    from tenants import keys
    from tenants.principals import get_principal

    def budget() -> Any:
        found = get_principal(
            keys.lookup_of(cast.owner_key) or "",
            keys.digest(cast.owner_key, "insecure-development-only-keys"),
        )
        assert found is not None
        return found.organization_limits.monthly_budget_micros

    assert budget is not None
    owner.post("/spend_limit", {"threshold_amount": 5, "currency": "USD", "interval": "month"})
    cast.organization.refresh_from_db()
    assert cast.organization.spend_limit_micros == 50_000
    assert cast.organization.monthly_budget_micros is None


@pytest.mark.parametrize("name", ["geography", "residency", "external_key_id"])
def test_fields_without_a_meaning_here_are_refused_by_name(owner: Caller, name: str) -> None:
    error = owner.post("/projects", {"name": "P", name: "EU"}, 400)
    assert (error["code"], error["param"]) == ("unsupported_parameter", name)


def test_a_mail_server_that_is_down_costs_no_request(
    owner: Caller, settings: Any, django_capture_on_commit_callbacks: Any
) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
    with django_capture_on_commit_callbacks(execute=True):
        made = owner.post("/invites", {"email": "a@example.com", "role": "reader"})
    assert owner.get(f"/invites/{made['id']}")["status"] == "pending"
