"""Identity providers: how they are found before anybody is logged in, and their settings.

A provider's ``handle`` is ``<slug>.<public id>``. It stands in log-in addresses and in
every account linked through the provider: the slug leads to the row, and the public
id, which is never given twice, keeps whoever takes a slug over from inheriting accounts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from django.db.models import QuerySet

from tenants import scope
from tenants.encryption import decrypt, encrypt
from tenants.errors import InvalidInput, NotFound
from tenants.models import IdentityProvider, Organization
from tenants.outbound import check_browser_url, check_server_url

PURPOSE = "identity-provider"
MOST_DOMAINS = 50
_DOMAIN = re.compile(r"(?=.{4,190}\Z)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{1,62}")


def domain_of(email: str) -> str:
    return email.rpartition("@")[2].strip().lower()


def handle_of(provider: IdentityProvider) -> str:
    return f"{provider.slug}.{provider.public_id}"


def get_by_handle(handle: str) -> IdentityProvider | None:
    """The enabled provider of a log-in address."""
    slug, _, public_id = handle.rpartition(".")
    if not slug:
        return None
    with scope.for_provider(slug):
        providers = IdentityProvider.objects.filter(slug=slug, public_id=public_id)
        return providers.filter(is_enabled=True).first()


def get_by_name(name: str) -> IdentityProvider | None:
    """The enabled provider that a person means by an address, a domain or a slug."""
    name = domain_of(name)
    if not name:
        return None
    found: dict[str, Any] = (
        {"verified_domains__contains": [name]} if "." in name else {"slug": name}
    )
    with scope.for_provider(name):
        return IdentityProvider.objects.filter(is_enabled=True, **found).first()


def get_enforcing(email: str) -> IdentityProvider | None:
    """The provider by which alone this address may log in, if there is one."""
    provider = get_by_name(email) if "@" in email else None
    return provider if provider is not None and provider.is_enforced else None


def get_providers(organization: Organization) -> QuerySet[IdentityProvider]:
    return IdentityProvider.objects.filter(organization=organization)


def access_provider(organization: Organization, public_id: str) -> IdentityProvider:
    """A provider of this organization, disabled ones included."""
    provider = get_providers(organization).filter(public_id=public_id).first()
    if provider is None:
        raise NotFound("No such identity provider.")
    return provider


def vouches_for(provider: IdentityProvider, email: str) -> bool:
    return "@" in email and domain_of(email) in provider.verified_domains


# --- Settings -------------------------------------------------------------------------


@dataclass(frozen=True)
class OidcSettings:
    issuer: str

    @classmethod
    def checked(cls, given: dict[str, Any]) -> OidcSettings:
        issuer = str(given.get("issuer", "")).strip().rstrip("/")
        return cls(issuer=check_server_url(issuer, param="issuer"))


@dataclass(frozen=True)
class SamlSettings:
    entity_id: str
    sso_url: str
    x509cert: str

    @classmethod
    def checked(cls, given: dict[str, Any]) -> SamlSettings:
        entity_id = str(given.get("entity_id", "")).strip()
        if not entity_id or len(entity_id) > 500 or not entity_id.isprintable():
            raise InvalidInput("The entity ID is required.", param="entity_id")
        sso_url = str(given.get("sso_url", "")).strip()
        return cls(
            entity_id=entity_id,
            sso_url=check_browser_url(sso_url, param="sso_url"),
            x509cert=_checked_certificate(str(given.get("x509cert", ""))),
        )


def _checked_certificate(text: str) -> str:
    """A certificate in PEM form. It is pinned, so who signed it does not matter."""
    text = text.strip()
    if "BEGIN CERTIFICATE" not in text:
        text = f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"
    try:
        x509.load_pem_x509_certificate(text.encode())
    except ValueError as error:
        raise InvalidInput("This is no X.509 certificate (PEM).", param="x509cert") from error
    return text


def checked_domains(domains: list[str], *, param: str) -> list[str]:
    """Domain names in lower case, each once, in a stable order."""
    names = sorted({name.strip().lower().lstrip("@") for name in domains if name.strip()})
    if len(names) > MOST_DOMAINS:
        raise InvalidInput(f"At most {MOST_DOMAINS} domains.", param=param)
    for name in names:
        if not _DOMAIN.fullmatch(name):
            raise InvalidInput(f"“{name[:80]}” is no domain name.", param=param)
    return names


def encrypt_secret(secret: str) -> bytes | None:
    return encrypt(secret, purpose=PURPOSE) if secret else None


def read_secret(provider: IdentityProvider) -> str:
    stored = provider.secret_encrypted
    return decrypt(stored, purpose=PURPOSE) if stored else ""
