"""Identity providers for tests: a real OpenID Connect server, and a SAML signer.

The OIDC server speaks HTTP on loopback: discovery, keys, token (code, PKCE and client
secret checked), user info. A test plays the browser in between.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from onelogin.saml2.utils import OneLogin_Saml2_Utils


@cache
def key_named(name: str) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem_of(key: rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).decode()


@cache
def certificate_named(name: str) -> str:
    key = key_named(name)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


# --- OpenID Connect --------------------------------------------------------------------


class OidcServer:
    """``with OidcServer() as idp``; attributes change what it answers."""

    client_id = "sluice"
    client_secret = "shared with the tenant"

    def __init__(self) -> None:
        self.signing_key = "oidc"  # what signs; "oidc" is what the keys document shows
        self.claims_changed: dict[str, Any] = {}
        self.discovery_changed: dict[str, Any] = {}
        self.userinfo: dict[str, Any] = {}
        self.redirects_to = ""  # discovery answers with a redirect there
        self.codes: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        handler = type("Handler", (_Handler,), {"idp": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> OidcServer:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def authorize(self, url: str, **claims: Any) -> str:
        """What a person's log-in at this provider leads to: the path back, with a code."""
        asked = dict(parse_qsl(urlsplit(url).query))
        assert asked["client_id"] == self.client_id
        assert asked["code_challenge_method"] == "S256"
        code = secrets.token_hex(8)
        self.codes[code] = asked | {"claims": claims}
        back = urlsplit(asked["redirect_uri"])
        return f"{back.path}?code={code}&state={asked['state']}"

    def id_token(self, claims: dict[str, Any]) -> str:
        now = int(time.time())
        payload = {
            "iss": self.issuer,
            "aud": self.client_id,
            "iat": now,
            "exp": now + 300,
            **claims,
            **self.claims_changed,
        }
        key = key_named(self.signing_key)
        return jwt.encode(payload, key, algorithm="RS256", headers={"kid": "oidc"})


class _Handler(BaseHTTPRequestHandler):
    idp: OidcServer

    def log_message(self, *args: object) -> None:
        pass

    def answer(self, body: Any, status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        idp = self.idp
        idp.asked.append(self.path)
        if self.path == "/.well-known/openid-configuration":
            if idp.redirects_to:
                self.send_response(302)
                self.send_header("Location", idp.redirects_to)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.answer(
                {
                    "issuer": idp.issuer,
                    "authorization_endpoint": f"{idp.issuer}/authorize",
                    "token_endpoint": f"{idp.issuer}/token",
                    "userinfo_endpoint": f"{idp.issuer}/userinfo",
                    "jwks_uri": f"{idp.issuer}/keys",
                }
                | idp.discovery_changed
            )
        elif self.path == "/keys":
            jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key_named("oidc").public_key()))
            self.answer({"keys": [jwk | {"kid": "oidc", "use": "sig", "alg": "RS256"}]})
        elif self.path == "/userinfo":
            self.answer(idp.userinfo)
        else:
            self.answer({"error": "not_found"}, 404)

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        given = {key: value[0] for key, value in parse_qs(self.rfile.read(length).decode()).items()}
        known = self.idp.codes.pop(given.get("code", ""), None)
        proof = hashlib.sha256(given.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(proof).decode().rstrip("=")
        is_right = (
            known is not None
            and known["code_challenge"].rstrip("=") == challenge
            and known["redirect_uri"] == given["redirect_uri"]
            and given.get("client_secret") == self.idp.client_secret
        )
        if not is_right:
            self.answer({"error": "invalid_grant"}, 400)
            return
        assert known is not None
        self.answer(
            {
                "access_token": secrets.token_hex(8),
                "token_type": "Bearer",
                "expires_in": 300,
                "id_token": self.idp.id_token(known["claims"]),
            }
        )


# --- SAML ---------------------------------------------------------------------------------

ENTITY_ID = "https://idp.example/saml"
SSO_URL = "https://idp.example/login"


def request_id_of(url: str) -> str:
    """The ID of the AuthnRequest that a log-in address carries."""
    encoded = dict(parse_qsl(urlsplit(url).query))["SAMLRequest"]
    xml = OneLogin_Saml2_Utils.decode_base64_and_inflate(encoded).decode()
    return xml.split('ID="')[1].split('"')[0]


def _moment(seconds: int) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def saml_response(
    *,
    email: str,
    acs: str,
    audience: str,
    request_id: str,
    key: str = "saml",
    issuer: str = ENTITY_ID,
    valid_s: int = 120,
    answers: str | None = None,
    context: str = "urn:oasis:names:tc:SAML:2.0:ac:classes:Password",
) -> str:
    """A base64 response whose assertion is signed, as a provider posts it.

    ``answers`` is the request that the signed assertion names, if another.
    """
    restriction = f"<saml:AudienceRestriction><saml:Audience>{audience}</saml:Audience></saml:AudienceRestriction>"
    names = 'xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion"'
    assertion = f"""<saml:Assertion {names} ID="_{secrets.token_hex(16)}" Version="2.0" IssueInstant="{_moment(0)}"><saml:Issuer>{issuer}</saml:Issuer><saml:Subject><saml:NameID Format="urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress">{email}</saml:NameID><saml:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer"><saml:SubjectConfirmationData NotOnOrAfter="{_moment(valid_s)}" Recipient="{acs}" InResponseTo="{answers or request_id}"/></saml:SubjectConfirmation></saml:Subject><saml:Conditions NotBefore="{_moment(-60)}" NotOnOrAfter="{_moment(valid_s)}">{restriction if audience else ""}</saml:Conditions><saml:AuthnStatement AuthnInstant="{_moment(0)}"><saml:AuthnContext><saml:AuthnContextClassRef>{context}</saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement><saml:AttributeStatement><saml:Attribute Name="email"><saml:AttributeValue>{email}</saml:AttributeValue></saml:Attribute></saml:AttributeStatement></saml:Assertion>"""
    signed = OneLogin_Saml2_Utils.add_sign(
        assertion, pem_of(key_named(key)), certificate_named(key)
    )
    signed_text = signed.decode() if isinstance(signed, bytes) else signed
    signed_text = signed_text.partition("?>")[2] if signed_text.startswith("<?xml") else signed_text
    response = f"""<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" {names} ID="_{secrets.token_hex(16)}" Version="2.0" IssueInstant="{_moment(0)}" Destination="{acs}" InResponseTo="{request_id}"><saml:Issuer>{issuer}</saml:Issuer><samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></samlp:Status>{signed_text.strip()}</samlp:Response>"""
    return base64.b64encode(response.encode()).decode()
