"""How an organization's people log in through its own identity provider."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from tenants import identifiers
from tenants.managers import ProviderManager
from tenants.models.organizations import Organization
from tenants.models.roles import Role


class IdentityProvider(models.Model):
    """One OIDC or SAML provider of one organization.

    People who come by it with an address in ``verified_domains`` become members with
    ``default_role``. Staff verify domains: whoever could claim one could log in as
    everybody there.
    """

    class Protocol(models.TextChoices):
        OIDC = "openid_connect", "OpenID Connect"
        SAML = "saml", "SAML 2.0"

    public_id = models.CharField(
        max_length=24, unique=True, default=identifiers.new_identity_provider_id, editable=False
    )
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="identity_providers"
    )
    protocol = models.CharField(max_length=16, choices=Protocol.choices)
    slug = models.SlugField(unique=True, help_text="Its part of the log-in address.")
    name = models.CharField(max_length=80)
    client_id = models.CharField(max_length=200, blank=True)
    secret_encrypted = models.BinaryField(null=True, editable=False)
    settings = models.JSONField(default=dict, blank=True, help_text="What allauth's app needs.")
    verified_domains = models.JSONField(default=list, blank=True)
    default_role = models.CharField(max_length=12, choices=Role.choices, default=Role.DEVELOPER)
    is_enabled = models.BooleanField(default=False)
    is_enforced = models.BooleanField(
        default=False, help_text="Addresses of its domains can log in by no other way."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ProviderManager()

    class Meta:
        ordering: ClassVar = ["name", "pk"]

    def __str__(self) -> str:
        return self.name
