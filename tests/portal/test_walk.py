"""Every page of the portal in Chromium, as each role, in both looks and both languages.

The list comes from the URL configuration: a new page is walked by itself as long as its
address needs no object that is unknown here, and must be named below if it is no page. Each
page is seen once a role, in turns on a light desktop and on a dark phone; the owner's turns are
the member's the other way round. ``WALK_PICTURES=1`` keeps pictures in ``tests/artifacts/walk/``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polib
import pytest
from django.urls import URLPattern, URLResolver, reverse

from inference.models import Model
from portal import account_urls, organization_urls, translations
from tenants.models import ApiKey, IdentityProvider, User, WebhookDelivery
from tests.cast import Cast, build_cast
from tests.portal import test_batches, test_providers, test_webhooks
from tests.portal.axe import violations
from tests.portal.conftest import log_in as client_of
from tests.portal.gallery import log_in
from tests.portal.test_browser import (  # noqa: F401 - fixtures are found by their names
    ARTIFACTS,
    WIDE,
    add_usage,
    chromium,
    fits,
    open_page,
    pytestmark,
)
from tests.portal.test_browser_tenancy import furnish

PICTURES = ARTIFACTS / "walk" if os.environ.get("WALK_PICTURES") else None
DESKTOP: dict[str, Any] = {"viewport": WIDE, "color_scheme": "light"}
PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark"}
ENGLISH, GERMAN = {"locale": "en-GB"}, {"locale": "de-DE"}
# What a role sees its first page in, and its second, and so on in turns.
TURNS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "owner": (DESKTOP | ENGLISH, PHONE | GERMAN),
    "member": (PHONE | GERMAN, DESKTOP | ENGLISH),
    "viewer": (DESKTOP | GERMAN, PHONE | ENGLISH),
    "staff": (PHONE | ENGLISH, DESKTOP | GERMAN),
}

# Addresses that are no pages of their own, with the reason.
NO_PAGES = {
    **dict.fromkeys(("requests_csv", "audit_csv", "audit_json_lines", "file_content"), "download"),
    **dict.fromkeys(
        ("playground_tickets", "group_member_remove", "role_unassign", "webhook_switch",
         "webhook_test", "webhook_replay", "saml_acs", "saml_sls"),
        "takes POST alone",
    ),
    **dict.fromkeys(("live", "batch_progress"), "part of a page"),
    **dict.fromkeys(
        ("openid_connect_callback", "saml_finish_acs", "saml_metadata", "social_login",
         "mfa_login_webauthn"),
        "for providers and scripts",
    ),
    **dict.fromkeys(
        ("account_confirm_email", "account_reset_password_from_key"), "needs a link from a mail"
    ),
    **dict.fromkeys(
        ("mfa_authenticate", "mfa_reauthenticate", "mfa_reauthenticate_webauthn",
         "mfa_deactivate_totp", "mfa_view_recovery_codes", "mfa_generate_recovery_codes",
         "mfa_edit_webauthn", "mfa_remove_webauthn", "mfa_list_webauthn",
         "second_factor_required", "settings_second_factor"),
        "needs a second factor: tests/portal/test_passkeys.py",
    ),
    **dict.fromkeys(("key_restore",), "needs a suspended key"),
}  # fmt: skip
# Shown to whoever is not logged in; others are led on.
FOR_VISITORS = frozenset({
    "account_login", "account_signup", "account_reset_password", "account_reset_password_done",
    "account_reset_password_from_key_done", "account_email_verification_sent",
    "account_inactive", "single_sign_on", "socialaccount_login_cancelled",
})  # fmt: skip
# Only for whoever has no password yet.
ONLY_SOMETIMES = frozenset({"account_set_password"})

# Keys of the cast are called so; in roles the word is translated all the same.
NAMES = frozenset({"Admin"})

TEXTS = """() => {
  const texts = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim();
    const parent = walker.currentNode.parentElement;
    if (text && !parent.closest('script, style, code, pre, [lang]:not(html), .diff')) texts.push(text);
  }
  return [...new Set(texts)];
}"""


@pytest.fixture(autouse=True)
def _folder(settings: Any, tmp_path: Path) -> None:
    settings.OBJECT_STORE = str(tmp_path / "objects")


def patterns() -> Iterable[URLPattern]:
    for each in [*organization_urls.urlpatterns, *account_urls.urlpatterns]:
        assert not isinstance(each, URLResolver), "patterns() has to look into it"
        yield each


def fields_of(pattern: URLPattern) -> list[str]:
    """The objects that an address names; of regular expressions, their groups."""
    regex = getattr(pattern.pattern, "regex", None)
    return sorted(pattern.pattern.converters) or sorted(regex.groupindex if regex else ())


def furnish_everything(cast: Cast) -> dict[str, str]:
    """One object of each kind that an address can name: ``{"key_id": "key_…", …}``."""
    Model.objects.create(name=test_batches.MODEL, kind=Model.Kind.CHAT)
    search = furnish(cast)
    batch = test_batches.make(cast)
    endpoint = test_webhooks.make(cast)
    client_of(cast.owner).post(test_webhooks.url(cast, f"{endpoint.public_id}/test/"))
    test_providers.make(cast)
    add_usage(cast.organization)
    organization = cast.organization
    return {
        "organization_id": organization.public_id,
        "key_id": ApiKey.objects.get(name="Staging backend").public_id,
        "project_id": search.public_id,
        "account_id": search.service_accounts.get().public_id,
        "group_id": organization.groups.get().public_id,
        "role_id": organization.custom_roles.get().public_id,
        "user_id": cast.viewer.public_id,
        "invitation_id": organization.invitations.first().public_id,
        "webhook_id": endpoint.public_id,
        "delivery_id": WebhookDelivery.objects.get().public_id,
        "provider_id": IdentityProvider.objects.get().public_id,
        "file_id": batch.input_file,
        "batch_id": batch.public_id,
        "request_id": f"req_{0:016x}",
        "model_name": "smollm2-135m-instruct",
        "mode": "completion",
    }


def addresses(known: dict[str, str], names: Iterable[str] | None = None) -> dict[str, str]:
    """Every page's address by its name; ``names`` narrows them."""
    found = {}
    in_organization = {id(each) for each in organization_urls.urlpatterns}
    for pattern in patterns():
        name = str(pattern.name)
        if name in NO_PAGES or name in ONLY_SOMETIMES:
            continue
        if names is not None and name not in names:
            continue
        fields = fields_of(pattern)
        if id(pattern) in in_organization:
            fields = ["organization_id", *fields]
        found[name] = reverse(name, kwargs={field: known[field] for field in fields})
    return found


def test_every_address_is_walked_or_named() -> None:
    """Names that are gone go from the lists too."""
    names = {str(pattern.name) for pattern in patterns()}
    assert (set(NO_PAGES) | FOR_VISITORS | ONLY_SOMETIMES) - names == set()
    assert FOR_VISITORS.isdisjoint(NO_PAGES)


@pytest.mark.parametrize("role", TURNS)
def test_every_page_as(role: str, open_page: Any) -> None:  # noqa: F811
    cast = build_cast()
    found = addresses(furnish_everything(cast))
    first, second = TURNS[role]
    at_door = open_page(**ENGLISH)
    user = getattr(cast, role)
    User.objects.update(name="Ada Lovelace")  # not "Owner", which is a word of pages too
    log_in(at_door, user.email)
    session = at_door.context.storage_state()
    browsers = [open_page(**look, storage_state=session) for look in (first, second)]
    walked = [
        name for name in found if name not in FOR_VISITORS and may_see(role, at_door, found[name])
    ]
    wrong: list[str] = []
    for turn, name in enumerate(walked):
        wrong += faults(browsers[turn % 2], found[name], f"{role}-{name}")
    assert wrong == []
    # Whoever owns the organization may see all of it, staff nothing of it but their account.
    least = {"owner": len(found) - len(FOR_VISITORS) - 6, "member": 25, "viewer": 15, "staff": 7}
    assert len(walked) >= least[role]


def test_every_page_of_visitors(open_page: Any) -> None:  # noqa: F811
    found = addresses({"organization_id": "-"} | dict.fromkeys(fields(), "-"), FOR_VISITORS)
    browsers = [open_page(**DESKTOP, **GERMAN), open_page(**PHONE, **ENGLISH)]
    wrong: list[str] = []
    for turn, (name, path) in enumerate(found.items()):
        wrong += faults(browsers[turn % 2], path, f"visitor-{name}")
    assert wrong == []


def fields() -> set[str]:
    return {field for pattern in patterns() for field in fields_of(pattern)}


def may_see(role: str, browser: Any, path: str) -> bool:
    """Asked beside the page, whose console would complain of a refusal."""
    status = browser.request.get(path, max_redirects=0).status
    allowed = {200} if role == "owner" else {200, 403, 404}
    # Pages of an account lead on to what has to be done before: a confirmed address, say.
    allowed |= {302} if path.startswith("/accounts/") else set()
    assert status in allowed, f"{path}: {status}"
    return bool(status == 200)


def faults(browser: Any, path: str, name: str) -> list[str]:
    """What is wrong with a page; all of a walk is told at once."""
    browser.goto(path)
    found = violations(browser)
    if browser.locator("h1").count() != 1:
        found.append("not one h1")
    if not fits(browser):
        found.append("scrolls sideways")
    if browser.evaluate("document.documentElement.lang") == "de":
        found += sorted((set(browser.evaluate(TEXTS)) & english()) - NAMES)
    if PICTURES:
        PICTURES.mkdir(parents=True, exist_ok=True)
        browser.screenshot(path=PICTURES / f"{name}.png", full_page=True)
    return [f"{name}: {fault}" for fault in found]


_ENGLISH: set[str] = set()


def english() -> set[str]:
    """Texts of the catalogue that read otherwise in German: none of them may be on its pages."""
    if not _ENGLISH:
        german = [polib.pofile(str(path)) for path in translations.catalogues()]
        entries = [entry for catalogue in german for entry in catalogue if entry.msgstr]
        said = {entry.msgstr for entry in entries}
        _ENGLISH.update(
            entry.msgid
            for entry in entries
            if entry.msgid != entry.msgstr and entry.msgid not in said
        )
    return _ENGLISH
