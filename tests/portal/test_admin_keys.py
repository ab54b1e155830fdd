"""Admin keys on the pages: nobody makes one, or gets at one, of more than they have."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from tenants import actions
from tenants.actions import KeyTerms
from tenants.models import ApiKey
from tenants.permissions import ALL
from tests.cast import Cast
from tests.portal.conftest import form_id_in, log_in
from tests.portal.test_keys import CHANGES, key_url, keys_url, secret_in

pytestmark = pytest.mark.django_db


def admin_keys_url(cast: Cast, path: str = "") -> str:
    return f"/o/{cast.organization.public_id}/settings/admin-keys/{path}"


def admin_key_form(client: Client, cast: Cast, *given: str) -> dict[str, Any]:
    page = client.get(admin_keys_url(cast, "new/")).content.decode()
    return {"form_id": form_id_in(page), "name": "Terraform", "permissions": list(given)}


def test_an_admin_key_has_what_was_chosen(cast: Cast) -> None:
    client = log_in(cast.admin)
    form = admin_key_form(client, cast, "project.create", "project.read")
    created = client.post(admin_keys_url(cast, "new/"), form)
    assert created.status_code == 201
    key = created.context["key"]
    assert (key.kind, key.scopes) == ("admin", ["project.create", "project.read"])
    assert secret_in(created).startswith("sk-admin-")
    assert "Terraform" in client.get(admin_keys_url(cast)).content.decode()
    assert "Terraform" not in client.get(keys_url(cast)).content.decode()
    again = client.post(admin_keys_url(cast, "new/"), form)
    assert again["Location"] == admin_keys_url(cast)
    assert ApiKey.objects.filter(name="Terraform").count() == 1


def test_nobody_makes_an_admin_key_of_more_than_they_have(cast: Cast) -> None:
    client = log_in(cast.admin)
    before = ApiKey.objects.count()
    for given in (["billing.manage"], ["project.read", "billing.manage"], [], ["no.such"]):
        form = admin_key_form(client, cast, *given)
        assert client.post(admin_keys_url(cast, "new/"), form).status_code in {400, 403}
    assert ApiKey.objects.count() == before


def test_nobody_gets_at_an_admin_key_of_more_than_they_have(cast: Cast) -> None:
    """Rotating shows a secret, and with it everything that the key may."""
    everything = KeyTerms(scopes=tuple(sorted(ALL)))
    strong, _ = actions.create_api_key(
        cast.organization, "Strong", acting_user=cast.owner, terms=everything
    )
    unscoped, _ = actions.create_api_key(cast.organization, "Unscoped", acting_user=cast.owner)
    client = log_in(cast.admin)
    for key in (strong, unscoped):
        before = ApiKey.objects.filter(pk=key.pk).values().get()
        form = {"overlap": "0", "seen": "", "name": "Mine", "permissions": ["project.read"]}
        assert client.post(key_url(key, "rotate"), form).status_code == 403
        assert client.post(key_url(key, "edit"), form).status_code == 403
        assert ApiKey.objects.filter(pk=key.pk).values().get() == before
    owner = log_in(cast.owner)
    assert owner.post(key_url(strong, "rotate"), {"overlap": "0", "seen": ""}).status_code == 200


@pytest.mark.parametrize("who", ["member", "billing", "viewer"])
def test_admin_keys_are_for_those_who_manage_them(cast: Cast, who: str) -> None:
    key, _ = actions.create_api_key(cast.organization, "Automation", acting_user=cast.owner)
    form = admin_key_form(log_in(cast.owner), cast, "organization.read")
    client = log_in(getattr(cast, who))
    count = ApiKey.objects.count()
    for path in (admin_keys_url(cast), admin_keys_url(cast, "new/"), key_url(key)):
        assert client.get(path).status_code == 403
    assert client.post(admin_keys_url(cast, "new/"), form).status_code == 403
    for change in CHANGES:
        assert client.post(key_url(key, change), form).status_code == 403
    key.refresh_from_db()
    assert key.is_live and ApiKey.objects.count() == count
    settings_page = client.get(f"/o/{cast.organization.public_id}/settings/").content.decode()
    assert "Admin keys" not in settings_page
