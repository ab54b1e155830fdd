"""Identity providers: who may make them of what, and what is kept of it."""

from __future__ import annotations

from typing import Any

import pytest

from tenants import access, identity_providers
from tenants.actions import single_sign_on
from tenants.actions.single_sign_on import ProviderTerms
from tenants.errors import AccessDenied, InvalidInput
from tenants.models import AuditEvent, IdentityProvider, Membership, Organization, Role, User
from tests.cast import Cast

pytestmark = pytest.mark.django_db
OIDC = ProviderTerms(
    name="Acme",
    settings={"issuer": "https://login.acme.test/"},
    client_id="sluice",
    secret="shared with nobody",
    domains=("Acme.test", "@mail.acme.test"),
    is_enabled=True,
)


def changed(**changes: Any) -> ProviderTerms:
    return ProviderTerms(**(OIDC.__dict__ | changes))


def actor_of(user: User, organization: Organization) -> access.Actor:
    return access.get_actor(Membership.objects.get(user=user, organization=organization))


def make(cast: Cast, terms: ProviderTerms = OIDC, slug: str = "acme") -> IdentityProvider:
    actor = actor_of(cast.owner, cast.organization)
    return single_sign_on.create_identity_provider(
        cast.organization, "openid_connect", slug, terms, actor=actor, address="203.0.113.1"
    )


def test_a_provider_keeps_its_secret_encrypted_and_out_of_the_trail(cast: Cast) -> None:
    provider = make(cast)
    provider.refresh_from_db()
    assert b"shared with nobody" not in bytes(provider.secret_encrypted)
    assert identity_providers.read_secret(provider) == "shared with nobody"
    assert provider.settings == {
        "issuer": "https://login.acme.test",
        "requested_domains": ["acme.test", "mail.acme.test"],
    }
    assert provider.verified_domains == [], "asked for is not verified"
    event = AuditEvent.objects.get(action="sso.created")
    assert event.organization == cast.organization
    assert "shared with nobody" not in event.content


def test_a_change_keeps_the_secret_unless_there_is_a_new_one(cast: Cast) -> None:
    provider = make(cast)
    actor = actor_of(cast.owner, cast.organization)
    single_sign_on.update_identity_provider(provider, changed(secret="", name="New"), actor=actor)
    assert identity_providers.read_secret(provider) == "shared with nobody"
    single_sign_on.update_identity_provider(provider, changed(secret="another"), actor=actor)
    assert identity_providers.read_secret(provider) == "another"
    replaced = [event.after["secret_replaced"] for event in AuditEvent.objects.filter(
        action="sso.updated").order_by("pk")]  # fmt: skip
    assert replaced == [False, True]
    assert "another" not in AuditEvent.objects.filter(action="sso.updated").last().content


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"name": " "}, "name"),
        ({"client_id": ""}, "client_id"),
        ({"settings": {}}, "issuer"),
        ({"settings": {"issuer": "javascript:alert(1)"}}, "issuer"),
        ({"domains": ("not a domain",)}, "domains"),
        ({"domains": ("localhost",)}, "domains"),
        ({"domains": ("*.acme.test",)}, "domains"),
        ({"domains": tuple(f"d{n}.test" for n in range(51))}, "domains"),
        ({"default_role": "emperor"}, "role"),
        ({"default_role": Role.OWNER}, "default_role"),
    ],
)
def test_what_is_refused(cast: Cast, changes: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        make(cast, changed(**changes))
    assert refusal.value.param == param
    assert not IdentityProvider.objects.exists()


@pytest.mark.parametrize("slug", ["", "Acme", "a.b", "acme.idp_x", "-a", "a" * 41, "a/b"])
def test_a_slug_is_a_plain_word(cast: Cast, slug: str) -> None:
    with pytest.raises(InvalidInput):
        make(cast, slug=slug)


def test_a_slug_is_taken_once(cast: Cast) -> None:
    make(cast)
    with pytest.raises(InvalidInput) as refusal:
        make(cast)
    assert refusal.value.param == "slug"


def test_nobody_gives_a_role_beyond_their_own(cast: Cast) -> None:
    actor = actor_of(cast.member, cast.organization)
    with pytest.raises(AccessDenied):
        single_sign_on.create_identity_provider(
            cast.organization, "openid_connect", "x", changed(default_role=Role.ADMIN), actor=actor
        )
    assert not IdentityProvider.objects.exists()


def test_only_staff_verify_domains_and_each_once(cast: Cast) -> None:
    first, second = make(cast), make(cast, slug="acme-2")
    with pytest.raises(AccessDenied):
        single_sign_on.verify_domains(first, ["acme.test"], acting_user=cast.owner)
    single_sign_on.verify_domains(first, ["Acme.test"], acting_user=cast.staff)
    assert first.verified_domains == ["acme.test"]
    with pytest.raises(InvalidInput):
        single_sign_on.verify_domains(second, ["acme.test"], acting_user=cast.staff)
    second.refresh_from_db()
    assert second.verified_domains == []
    single_sign_on.verify_domains(first, ["acme.test"], acting_user=cast.staff)


def test_a_certificate_is_one(cast: Cast) -> None:
    actor = actor_of(cast.owner, cast.organization)
    settings = {"entity_id": "https://idp.test", "sso_url": "https://idp.test/in", "x509cert": "x"}
    with pytest.raises(InvalidInput) as refusal:
        single_sign_on.create_identity_provider(
            cast.organization, "saml", "acme", changed(settings=settings), actor=actor
        )
    assert refusal.value.param == "x509cert"


def test_joining_is_for_the_verified_domains(cast: Cast) -> None:
    provider = make(cast)
    single_sign_on.verify_domains(provider, ["acme.test"], acting_user=cast.staff)
    for email in ("x@evil.test", "x@acme.test.evil.test", "acme.test", "x@sub.acme.test"):
        user = User.objects.create(email=email)
        assert single_sign_on.join_by_provider(provider, user=user) is None
    user = User.objects.create(email="x@acme.test")
    joined = single_sign_on.join_by_provider(provider, user=user)
    assert joined is not None and joined.role == Role.DEVELOPER
    assert single_sign_on.join_by_provider(provider, user=user) == joined
    assert AuditEvent.objects.filter(action="member.added").count() == 1


def test_a_disabled_provider_is_found_by_nobody(cast: Cast) -> None:
    provider = make(cast, changed(is_enabled=False, is_enforced=True))
    single_sign_on.verify_domains(provider, ["acme.test"], acting_user=cast.staff)
    assert identity_providers.get_by_name("acme") is None
    assert identity_providers.get_by_handle(identity_providers.handle_of(provider)) is None
    assert identity_providers.get_enforcing("x@acme.test") is None
