"""CVE-2026-114612: one salt served several purposes, and what one showed opened another.

Every use of a secret or of a keyed hash in the code is listed here with what sets it
apart. A new one fails the test until somebody has thought about it.
"""

from __future__ import annotations

import ast
from pathlib import Path

from django.conf import settings

from api.run import cache_salt
from inference.cache_analysis import analysis_key
from portal import account_audit, form_ids
from tenants import encryption, keys
from tenants.models import Organization, User

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("tenants", "billing", "inference", "api", "portal", "workers", "config")

# Where a secret is read, and what makes its use its own.
SECRETS = {
    ("tenants/authentication.py", "API_KEY_PEPPER"): "keys' digests, and nothing else under it",
    ("tenants/admin_keys.py", "API_KEY_PEPPER"): "the same digest, compared",
    ("tenants/actions/keys.py", "API_KEY_PEPPER"): "the same digest, stored",
    ("tenants/encryption.py", "FIELD_ENCRYPTION_KEY"): "HKDF with the purpose as its info",
    ("api/run.py", "CACHE_SALT_SECRET"): "KV-cache salts, under the prefix kv:",
    (
        "inference/cache_analysis.py",
        "CACHE_SALT_SECRET",
    ): "digests of requests, under the prefix cache-analysis:",
    ("portal/account_audit.py", "SECRET_KEY"): "derived under the prefix audit-address:",
    ("portal/social_login.py", "SOCIAL_LOGIN_CLIENT_SECRET"): "sent to its provider",
}
ALSO_ALLOWED = {
    # Reads a key's digest for the demo's own check.
    ("workers/management/commands/create_demo.py", "API_KEY_PEPPER"),
}
# Keyed or signing calls, each in the function that owns its context.
SIGNERS = {
    ("tenants/keys.py", "hmac.digest"),
    ("tenants/principals.py", "hmac.compare_digest"),
    ("api/service.py", "hmac.compare_digest"),
    ("api/run.py", "hmac.digest"),
    # A replica's token, which it tells its gateways, compared.
    ("workers/engine/bypass.py", "hmac.compare_digest"),
    ("inference/cache_analysis.py", "hmac.digest"),
    ("portal/account_audit.py", "hmac.new"),
    ("portal/form_ids.py", "signing.dumps"),
    ("portal/form_ids.py", "signing.loads"),
    # An endpoint's own secret, which its organization has too.
    ("tenants/webhooks/signing.py", "hmac.new"),
    ("tenants/webhooks/sending.py", "signing.headers"),
}


def _sources() -> list[tuple[str, ast.AST]]:
    return [
        (path.relative_to(ROOT).as_posix(), ast.parse(path.read_text()))
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
        if "migrations" not in path.parts
    ]


def test_each_secret_is_read_where_it_is_known_to_be() -> None:
    names = {name for _, name in SECRETS}
    found = {
        (path, node.attr)
        for path, tree in _sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in names
        and isinstance(node.value, ast.Name)
        and node.value.id == "settings"
    }

    assert found - ALSO_ALLOWED == set(SECRETS)


def test_each_keyed_hash_and_signature_is_known() -> None:
    found = set()
    for path, tree in _sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = node.func.value
                name = f"{owner.id}.{node.func.attr}" if isinstance(owner, ast.Name) else ""
                if name.startswith(("hmac.", "signing.", "signer.")):
                    found.add((path, name))

    assert found == SIGNERS


def test_one_text_is_something_else_for_every_purpose() -> None:
    """Even under one secret for everything, which production refuses."""
    text = "kv:7"
    user, organization = User(pk=7), Organization(pk=7, public_id="org_7")
    shown = {
        keys.digest(text, "s").hex(),
        cache_salt(7),
        analysis_key(7).hex(),
        account_audit._digest(text),
        form_ids._salt(user, organization),
    }
    assert len(shown) == 5
    purposes = ("idp", "totp", "answer", "webhook-signing", "")
    stored = {purpose: encryption.encrypt(text, purpose=purpose) for purpose in purposes}
    for purpose in purposes:
        for other in set(purposes) - {purpose}:
            try:
                encryption.decrypt(stored[purpose], purpose=other)
            except encryption.Undecryptable:
                continue
            raise AssertionError(f"{other!r} decrypts what was meant for {purpose!r}")


def test_salts_tell_organizations_apart_and_do_not_show_their_secret() -> None:
    salts = {cache_salt(organization) for organization in range(1_000)}

    assert len(salts) == 1_000
    assert not any(settings.CACHE_SALT_SECRET in salt for salt in salts)
