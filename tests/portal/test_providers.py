"""The pages on which an organization keeps its identity providers."""

from __future__ import annotations

from typing import Any

import pytest

from tenants import identity_providers
from tenants.models import IdentityProvider, Membership, Role
from tests.cast import Cast
from tests.portal.conftest import log_in

pytestmark = pytest.mark.django_db
FORM = {
    "protocol": "openid_connect",
    "slug": "acme",
    "name": "Acme log-in",
    "issuer": "https://login.acme.test",
    "client_id": "sluice",
    "secret": "only once",
    "domains": "acme.test",
    "default_role": "developer",
    "is_enabled": "on",
}


def path_of(cast: Cast, rest: str = "") -> str:
    return f"/o/{cast.organization.public_id}/single-sign-on/{rest}"


def make(cast: Cast, **changes: str) -> Any:
    return log_in(cast.owner).post(path_of(cast, "new/"), FORM | changes)


def test_a_provider_is_made_changed_and_removed(cast: Cast) -> None:
    response = make(cast)
    provider = IdentityProvider.objects.get()
    assert response["Location"] == path_of(cast, f"{provider.public_id}/")
    client = log_in(cast.owner)
    page = client.get(response["Location"]).content.decode()
    handle = identity_providers.handle_of(provider)
    assert f"http://testserver/accounts/oidc/{handle}/callback/" in page
    assert "only once" not in page
    client.post(response["Location"], FORM | {"name": "Renamed", "secret": ""})
    provider.refresh_from_db()
    assert provider.name == "Renamed"
    assert identity_providers.read_secret(provider) == "only once"
    assert "Renamed" in client.get(path_of(cast)).content.decode()
    client.post(path_of(cast, f"{provider.public_id}/remove/"))
    assert not IdentityProvider.objects.exists()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"issuer": "nonsense"}, "issuer"),
        ({"domains": "not_a_domain"}, "domains"),
        ({"default_role": "owner"}, "default_role"),
        ({"slug": "UPPER"}, "slug"),
    ],
)
def test_a_refusal_stands_at_its_field(cast: Cast, changes: dict[str, str], field: str) -> None:
    response = make(cast, **changes)
    assert response.status_code == 400
    assert f'id="id_{field}_error"' in response.content.decode()
    assert not IdentityProvider.objects.exists()


def test_saml_asks_for_its_own_fields(cast: Cast) -> None:
    page = log_in(cast.owner).get(path_of(cast, "new/?protocol=saml")).content.decode()
    assert "Signing certificate" in page and "Client secret" not in page


def test_a_new_provider_proposes_a_modest_role(cast: Cast) -> None:
    page = log_in(cast.owner).get(path_of(cast, "new/")).content.decode()
    assert '<option value="developer" selected>' in page


@pytest.mark.parametrize("name", ["member", "billing", "viewer"])
def test_others_may_not(cast: Cast, name: str) -> None:
    make(cast)
    provider = IdentityProvider.objects.get()
    client = log_in(getattr(cast, name))
    for rest in ("", "new/", f"{provider.public_id}/", f"{provider.public_id}/remove/"):
        for response in (client.get(path_of(cast, rest)), client.post(path_of(cast, rest), FORM)):
            assert response.status_code in {403, 405}, rest
    assert IdentityProvider.objects.get().name == "Acme log-in"


def test_a_stranger_finds_nothing(cast: Cast) -> None:
    make(cast)
    provider = IdentityProvider.objects.get()
    stranger = log_in(cast.stranger)
    for rest in ("", "new/", f"{provider.public_id}/", f"{provider.public_id}/remove/"):
        assert stranger.get(path_of(cast, rest)).status_code == 404
    # Nor by way of their own organization.
    theirs = f"/o/{cast.other_organization.public_id}/single-sign-on/{provider.public_id}/"
    assert stranger.get(theirs).status_code == 404
    assert stranger.post(f"{theirs}remove/").status_code == 404
    assert IdentityProvider.objects.exists()


def test_an_admin_may_and_cannot_let_people_in_above_themselves(cast: Cast) -> None:
    client = log_in(cast.admin)
    refused = client.post(path_of(cast, "new/"), FORM | {"default_role": Role.BILLING})
    assert refused.status_code == 400
    assert client.post(path_of(cast, "new/"), FORM).status_code == 302
    assert Membership.objects.filter(user=cast.admin).exists()
