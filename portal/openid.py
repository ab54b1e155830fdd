"""OpenID Connect as we speak it: discovery held to the issuer, ID tokens verified.

allauth trusts an ID token that came by TLS from the token endpoint. Here tenants choose
endpoints, so each token's signature is checked against the provider's published
keys, with asymmetric algorithms only.
"""

from __future__ import annotations

from typing import Any

import jwt
import requests
from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.models import SocialApp, SocialLogin, SocialToken
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.http import HttpRequest

from tenants.errors import InvalidInput
from tenants.outbound import check_browser_url

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]
NEEDED = ("issuer", "authorization_endpoint", "token_endpoint", "jwks_uri")
CLOCK_SKEW_S = 60


class OpenIdAdapter(OpenIDConnectOAuth2Adapter):
    """Every failure is an ``OAuth2Error`` or a ``RequestException``, which become a page."""

    @property
    def openid_config(self) -> dict[str, Any]:
        if not hasattr(self, "_openid_config"):
            provider = self.get_provider()
            self._openid_config = _discover(
                provider.server_url, provider.app.settings["server_url"]
            )
        return self._openid_config

    def complete_login(
        self, request: HttpRequest, app: SocialApp, token: SocialToken, **kwargs: Any
    ) -> SocialLogin:
        """The verified ID token, and the user info where the token names no address."""
        id_token = kwargs["response"].get("id_token")
        if not isinstance(id_token, str):
            raise OAuth2Error("There is no ID token.")
        claims = self._decode_id_token(app, id_token)
        may_ask = app.source.takes_user_info and "userinfo_endpoint" in self.openid_config
        if "email" not in claims and may_ask:
            info = self._fetch_user_info(token.token)
            # OpenID Connect Core 5.3.2: else somebody's token could bring another's address.
            if info.get("sub") != claims["sub"]:
                raise OAuth2Error("The user info is of somebody else.")
            claims = info | claims
        return self.get_provider().sociallogin_from_response(request, {"id_token": claims})

    def _decode_id_token(self, app: SocialApp, id_token: str) -> dict[str, Any]:
        try:
            key = _signing_key(self.openid_config["jwks_uri"], id_token)
            claims: dict[str, Any] = jwt.decode(
                id_token,
                key=key.key,
                algorithms=ALGORITHMS,
                audience=app.client_id,
                issuer=self.openid_config["issuer"],
                leeway=CLOCK_SKEW_S,
                options={"require": ["exp", "iat", "sub", "aud", "iss"]},
            )
        except (jwt.PyJWTError, TypeError, ValueError) as error:
            raise OAuth2Error("The ID token is not valid.") from error
        return claims


def _discover(url: str, issuer: str) -> dict[str, Any]:
    """The provider's metadata; its issuer must be the one that was configured."""
    config = _fetch_json(url)
    for name in NEEDED:
        if not isinstance(config.get(name), str):
            raise OAuth2Error(f"The discovery document has no {name}.")
    if config["issuer"].rstrip("/") != issuer.rstrip("/"):
        raise OAuth2Error("The discovery document is of another issuer.")
    try:
        check_browser_url(config["authorization_endpoint"], param="issuer")
    except InvalidInput as error:
        raise OAuth2Error("The authorization endpoint is no https:// URL.") from error
    return config


def _signing_key(url: str, id_token: str) -> jwt.PyJWK:
    keys = jwt.PyJWKSet.from_dict(_fetch_json(url)).keys
    kid = jwt.get_unverified_header(id_token).get("kid")
    usable = [key for key in keys if key.public_key_use in (None, "sig")]
    found = [key for key in usable if key.key_id == kid] if kid else usable
    if len(found) != 1:
        raise OAuth2Error("The ID token is signed with an unknown key.")
    return found[0]


def _fetch_json(url: str) -> dict[str, Any]:
    with get_adapter().get_requests_session() as session:
        response: requests.Response = session.get(url)
        response.raise_for_status()
        answer = response.json()
    if not isinstance(answer, dict):
        raise OAuth2Error("The provider's answer is no JSON object.")
    return answer
