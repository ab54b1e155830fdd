"""allauth's OpenID Connect and SAML providers, bent to providers that are ours to find.

Named in ``SOCIALACCOUNT_PROVIDERS``. What they change: a pending log-in remembers the
provider's handle; of the claims only those are stored that decide something later.
"""

from __future__ import annotations

from typing import Any

from allauth.account.models import EmailAddress
from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from allauth.socialaccount.providers.saml.provider import SAMLProvider
from django.core.cache import cache
from django.core.exceptions import PermissionDenied
from onelogin.saml2.xml_utils import OneLogin_Saml2_XML

from portal.openid import OpenIdAdapter

LONGEST_UID = 191  # allauth's column
# Longer than any assertion is valid for: python3-saml refuses it afterwards.
ASSERTION_MEMORY_S = 24 * 3600
# How a provider says that it asked for two factors: RFC 8176, Entra ID, REFEDS.
AMR_ATTRIBUTE = "http://schemas.microsoft.com/claims/authnmethodsreferences"
MULTI_FACTOR = frozenset(
    {
        "mfa",
        "http://schemas.microsoft.com/claims/multipleauthn",
        "https://refeds.org/profile/mfa",
    }
)


class _OfSource:
    app: Any
    id: str

    def serialize(self) -> dict[str, Any]:
        """What finds the provider again: several tenants may have the same client id."""
        return {"id": self.app.provider_id, "app.client_id": self.app.client_id}

    def extract_uid(self, data: Any) -> str:
        uid: Any = super().extract_uid(data)  # type: ignore[misc]
        if not isinstance(uid, str) or not uid:
            raise PermissionDenied("The provider names nobody.")
        account_id: str = self.app.source.account_id(uid)
        if len(account_id) > LONGEST_UID:
            raise PermissionDenied("The provider's name of this person is too long.")
        return account_id


class OpenIdConnect(_OfSource, OpenIDConnectProvider):
    oauth2_adapter_class = OpenIdAdapter
    pkce_enabled_default = True

    def extract_email_addresses(self, data: dict[str, Any]) -> list[EmailAddress]:
        """Unconfirmed until the log-in is complete; allauth stores the claim, be it a string."""
        addresses: list[EmailAddress] = super().extract_email_addresses(data)
        for address in addresses:
            address.verified = False
        return addresses

    def extract_extra_data(self, data: dict[str, Any]) -> dict[str, Any]:
        claims = data["id_token"]
        methods = claims.get("amr")
        return {
            "amr": [str(method) for method in methods] if isinstance(methods, list) else [],
            "email_denied": self.app.source.denies_email(claims),
        }


class Saml(_OfSource, SAMLProvider):
    def sociallogin_from_response(self, request: Any, response: Any) -> Any:
        """``response`` is python3-saml's auth, its signature and conditions checked.

        python3-saml takes an assertion that names no audience or answers no request, so
        one that the provider made for another service would do here. Nor does it
        remember what was used.
        """
        xml = OneLogin_Saml2_XML.to_etree(response.get_last_response_xml())
        answered = OneLogin_Saml2_XML.query(xml, "//saml:SubjectConfirmationData/@InResponseTo")
        if response.get_last_response_in_response_to() not in answered:
            raise PermissionDenied("This assertion answers no request of ours.")
        if not OneLogin_Saml2_XML.query(xml, "//saml:AudienceRestriction/saml:Audience"):
            raise PermissionDenied("This assertion is not restricted to us.")
        assertion = response.get_last_assertion_id()
        key = f"saml.assertion.{self.app.provider_id}.{assertion}"
        if not assertion or not cache.add(key, True, timeout=ASSERTION_MEMORY_S):
            raise PermissionDenied("This assertion was used before.")
        return super().sociallogin_from_response(request, response)

    def extract_extra_data(self, data: Any) -> dict[str, Any]:
        methods = [*data.get_attributes().get(AMR_ATTRIBUTE, []), *data.get_last_authn_contexts()]
        return {"amr": [str(method) for method in methods], "email_denied": False}


def says_multi_factor(extra_data: dict[str, Any]) -> bool:
    return not MULTI_FACTOR.isdisjoint(extra_data.get("amr", []))
