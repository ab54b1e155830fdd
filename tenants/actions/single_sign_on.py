"""Identity providers made, changed and removed; people who join by one."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from django.db import IntegrityError, connection, transaction

from tenants import access, audit, identity_providers, permissions, scope
from tenants.actions.members import checked_role
from tenants.errors import AccessDenied, InvalidInput
from tenants.identity_providers import (
    OidcSettings,
    SamlSettings,
    checked_domains,
    encrypt_secret,
    vouches_for,
)
from tenants.models import IdentityProvider, Membership, Organization, Role, User

MOST_PROVIDERS = 10
_SLUG = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
# Any number: the lock under which it is decided who has a domain.
_DOMAIN_LOCK = 7_302_114


@dataclass(frozen=True)
class ProviderTerms:
    """What an organization says of its provider. ``secret`` empty keeps the stored one."""

    name: str
    settings: dict[str, Any]
    client_id: str = ""
    secret: str = ""
    domains: tuple[str, ...] = ()  # asked for; staff verify them
    default_role: str = Role.DEVELOPER
    is_enabled: bool = False
    is_enforced: bool = False


@transaction.atomic
def create_identity_provider(
    organization: Organization,
    protocol: str,
    slug: str,
    terms: ProviderTerms,
    *,
    actor: access.Actor,
    address: str | None = None,
) -> IdentityProvider:
    """A provider of this organization. Its slug is part of its address and never changes."""
    if IdentityProvider.objects.filter(organization=organization).count() >= MOST_PROVIDERS:
        raise InvalidInput(f"An organization has at most {MOST_PROVIDERS} providers.")
    if protocol not in IdentityProvider.Protocol.values:
        raise InvalidInput("The protocol is openid_connect or saml.", param="protocol")
    if not _SLUG.fullmatch(slug):
        raise InvalidInput("Small letters, digits and hyphens only.", param="slug")
    provider = IdentityProvider(organization=organization, protocol=protocol, slug=slug)
    _apply(provider, terms, actor)
    try:
        with transaction.atomic():
            provider.save()
    except IntegrityError as error:
        raise InvalidInput("This short name is taken.", param="slug") from error
    _record("sso.created", provider, actor, address, after=_shown(provider))
    return provider


@transaction.atomic
def update_identity_provider(
    provider: IdentityProvider,
    terms: ProviderTerms,
    *,
    actor: access.Actor,
    address: str | None = None,
) -> IdentityProvider:
    before = _shown(provider)
    _apply(provider, terms, actor)
    provider.save()
    after = _shown(provider) | {"secret_replaced": bool(terms.secret)}
    _record("sso.updated", provider, actor, address, before=before, after=after)
    return provider


@transaction.atomic
def delete_identity_provider(
    provider: IdentityProvider, *, actor: access.Actor, address: str | None = None
) -> None:
    """Nobody logs in by it any more; memberships that it made stay."""
    _record("sso.deleted", provider, actor, address, before=_shown(provider))
    provider.delete()


@transaction.atomic
def verify_domains(
    provider: IdentityProvider,
    domains: list[str],
    *,
    acting_user: User,
    address: str | None = None,
) -> IdentityProvider:
    """Staff say which domains are this organization's. One domain has one provider."""
    if not acting_user.is_staff:
        raise AccessDenied("Only staff verify domains.")
    names = checked_domains(domains, param="verified_domains")
    with connection.cursor() as cursor:
        # No constraint reaches into a JSON list, and two staff may decide at once.
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_DOMAIN_LOCK])
    for name in names:
        taken = IdentityProvider.objects.filter(verified_domains__contains=[name])
        if taken.exclude(pk=provider.pk).exists():
            raise InvalidInput(f"“{name}” belongs to another provider.", param="verified_domains")
    before = {"verified_domains": provider.verified_domains}
    provider.verified_domains = names
    provider.save(update_fields=["verified_domains"])
    audit.record_event(
        acting_user=acting_user,
        action="sso.domains_verified",
        object_type="identity_provider",
        object_id=provider.public_id,
        organization=provider.organization,
        before=before,
        after={"verified_domains": names},
        address=address,
    )
    return provider


def join_by_provider(
    provider: IdentityProvider, *, user: User, address: str | None = None
) -> Membership | None:
    """Make whom the provider vouches for a member, never of more than its default role.

    None, and nothing is changed, for an address outside of the verified domains.
    """
    if not vouches_for(provider, user.email):
        return None
    with scope.for_organization(provider.organization_id), transaction.atomic():
        organization = Organization.objects.get(pk=provider.organization_id)
        membership, is_new = Membership.objects.get_or_create(
            organization=organization, user=user, defaults={"role": provider.default_role}
        )
        if is_new:
            audit.record_event(
                acting_user=user,
                action="member.added",
                object_type="user",
                object_id=user.public_id,
                organization=organization,
                after={
                    "email": user.email,
                    "role": membership.role,
                    "identity_provider": provider.public_id,
                },
                address=address,
            )
    return membership


def _apply(provider: IdentityProvider, terms: ProviderTerms, actor: access.Actor) -> None:
    provider.name = _checked_label(terms.name)
    provider.default_role = _checked_default_role(terms.default_role, actor)
    provider.client_id = terms.client_id.strip()
    provider.is_enabled, provider.is_enforced = terms.is_enabled, terms.is_enforced
    if terms.secret:
        provider.secret_encrypted = encrypt_secret(terms.secret)
    if provider.protocol == IdentityProvider.Protocol.OIDC:
        if not provider.client_id:
            raise InvalidInput("The client ID is required.", param="client_id")
        checked = asdict(OidcSettings.checked(terms.settings))
    else:
        checked = asdict(SamlSettings.checked(terms.settings))
    asked = checked_domains(list(terms.domains), param="domains")
    provider.settings = checked | {"requested_domains": asked}


def _checked_label(name: str) -> str:
    name = name.strip()
    if not name or len(name) > 80 or not name.isprintable():
        raise InvalidInput("A name of at most 80 printable characters, please.", param="name")
    return name


def _checked_default_role(role: str, actor: access.Actor) -> str:
    role = checked_role(role)
    # Whoever the provider lets in gets it unasked; an owner is made by an owner.
    if role == Role.OWNER:
        raise InvalidInput("Nobody becomes an owner by logging in.", param="default_role")
    actor.check_gives(permissions.OF_ROLE[role])
    return role


def _shown(provider: IdentityProvider) -> dict[str, Any]:
    """What the audit trail tells of a provider: everything but its secret."""
    return {
        "handle": identity_providers.handle_of(provider),
        "name": provider.name,
        "protocol": provider.protocol,
        "client_id": provider.client_id,
        "settings": provider.settings,
        "default_role": provider.default_role,
        "is_enabled": provider.is_enabled,
        "is_enforced": provider.is_enforced,
    }


def _record(
    action: str,
    provider: IdentityProvider,
    actor: access.Actor,
    address: str | None,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    audit.record_event(
        acting_user=actor.user,
        action=action,
        object_type="identity_provider",
        object_id=provider.public_id,
        organization=provider.organization,
        before=before,
        after=after,
        address=address,
    )
