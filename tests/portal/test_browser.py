"""The pages in a real browser: sign-up to revocation, dark, narrow, no console error.

Screenshots land in ``tests/artifacts/`` for people to look at.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from billing.models import UsageEvent
from tenants.keys import lookup_of
from tenants.models import ApiKey, Organization
from tests.cast import PASSWORD, build_cast, default_plan

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
ARTIFACTS = Path(__file__).parent.parent / "artifacts"
WIDE = {"width": 1280, "height": 860}
NARROW = {"width": 390, "height": 844}

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no Chromium at {CHROMIUM}; CHROMIUM=<path>"),
    pytest.mark.django_db(transaction=True),
]


@pytest.fixture(scope="module")
def chromium(django_db_setup: None) -> Iterator[Any]:
    """One browser for the module, closed before the database goes."""
    with (
        pytest.MonkeyPatch.context() as monkeypatch,
        playwright.sync_playwright() as driver,
    ):
        # Playwright's sync API runs an event loop in this thread, where Django would
        # refuse the ORM although nothing here is asynchronous.
        monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any, live_server: Any) -> Iterator[Any]:
    """``open_page(viewport=…, color_scheme=…)``; a console error fails the test at its end."""
    contexts: list[Any] = []
    complaints: list[str] = []

    def open_one(**options: Any) -> Any:
        context = chromium.new_context(base_url=live_server.url, **({"viewport": WIDE} | options))
        contexts.append(context)
        context.set_default_timeout(10_000)
        page = context.new_page()
        page.on("console", lambda message: complaints.extend(complaint_of(message)))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert complaints == []


def complaint_of(message: Any) -> list[str]:
    """An error that a page wrote; the server of these tests speaks no WebSocket, which is one."""
    is_socket = "WebSocket connection to" in message.text and "/live/" in message.text
    return [message.text] if message.type == "error" and not is_socket else []


def shoot(page: Any, name: str) -> None:
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{name}.png", full_page=True)


def log_in(page: Any, email: str) -> None:
    page.goto("/accounts/login/")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Log in", exact=True).click()
    page.wait_for_url("**/o/**")


def fits(page: Any) -> bool:
    """Nothing makes the page scroll sideways."""
    script = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    return bool(page.evaluate(script))


def add_usage(organization: Organization) -> None:
    """Five weeks of requests of several models and outcomes."""
    key = organization.api_keys.filter(kind="project").first()
    now = timezone.now()
    statuses = ["completed"] * 17 + ["cancelled", "failed", "blocked"]
    UsageEvent.objects.bulk_create(
        UsageEvent(
            request_id=f"req_{number:016x}",
            organization=organization,
            project=key.project,
            api_key=key,
            model=("smollm2-135m-instruct", "all-minilm-l6-v2")[number % 5 == 0],
            endpoint="chat.completions",
            status=statuses[number % 20],
            source="gateway",
            prompt_tokens=400 + (number * 7919) % 3000,
            cached_tokens=number % 300,
            completion_tokens=(number * 104729) % 900,
            started_at=now - timedelta(hours=2 * number + (number * 31) % 17),
            duration_ms=120 + (number * 53) % 4000,
            cost_micros=120 + (number * 977) % 90_000,
        )
        for number in range(400)
    )


def test_from_sign_up_to_a_revoked_key(open_page: Any) -> None:
    default_plan()
    page = open_page()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto("/")
    shoot(page, "login")
    page.get_by_role("link", name="Create an account").click()
    page.get_by_label("Email").fill("ada@example.com")
    page.get_by_label("Organization name").fill("Analytical Engines")
    page.get_by_label("Password", exact=True).fill("short")
    page.get_by_label("Password (again)").fill("short")
    page.get_by_role("button", name="Create account").click()
    page.get_by_text("too short").wait_for()
    shoot(page, "signup-refused")
    page.get_by_label("Password", exact=True).fill("notes on the engine")
    page.get_by_label("Password (again)").fill("notes on the engine")
    page.get_by_role("button", name="Create account").click()
    page.wait_for_url("**/o/org_*/")
    shoot(page, "overview-first-run")

    page.get_by_role("button", name="Create key").click()
    page.get_by_text("Copy the secret now").wait_for()
    secret = page.locator("#secret").text_content()
    shoot(page, "key-created")
    page.locator(".secret .copy").click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == secret
    key = ApiKey.objects.get(lookup=lookup_of(secret))
    assert key.name == "My first key"

    page.get_by_role("link", name="I have copied it").click()
    assert secret not in page.content()
    page.get_by_role("link", name="My first key").click()
    page.get_by_role("link", name="Revoke").click()
    shoot(page, "key-revoke")
    page.get_by_role("button", name="Revoke key").click()
    page.locator(".badge", has_text="Revoked").wait_for()
    shoot(page, "keys-revoked")
    key.refresh_from_db()
    assert not key.is_live
    page.get_by_label("Account of ada@example.com").click()
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/accounts/login/")


def test_a_double_click_creates_one_key_and_shows_it(open_page: Any) -> None:
    cast = build_cast()
    page = open_page()
    log_in(page, cast.owner.email)
    page.goto(f"/o/{cast.organization.public_id}/keys/new/")
    shoot(page, "key-create")
    page.get_by_label("Name").fill("Twice")
    page.get_by_role("button", name="Create key").dblclick()
    page.locator("#secret").wait_for()
    assert ApiKey.objects.filter(name="Twice").count() == 1


def test_theme_by_system_and_by_choice(open_page: Any) -> None:
    cast = build_cast()
    add_usage(cast.organization)
    page = open_page(color_scheme="dark")
    log_in(page, cast.owner.email)
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    for name in ("", "keys/", "usage/", "settings/"):
        page.goto(f"/o/{cast.organization.public_id}/{name}")
        shoot(page, f"dark-{name.strip('/') or 'overview'}")
    page.get_by_label("Account of").click()
    shoot(page, "dark-menu")
    with page.expect_response("**/theme/"):
        page.get_by_role("button", name="Light").click()
    light = page.evaluate(background)
    assert light != dark
    page.reload()
    assert page.evaluate(background) == light, "the choice outlives the page"


@pytest.mark.parametrize("viewport", [WIDE, NARROW, {"width": 360, "height": 740}], ids=str)
def test_every_page_fits(open_page: Any, viewport: dict[str, int]) -> None:
    cast = build_cast()
    add_usage(cast.organization)
    width = viewport["width"]
    page = open_page(viewport=viewport)
    for path in ("accounts/login/", "accounts/signup/", "accounts/password/reset/"):
        page.goto("/" + path)
        assert fits(page), path
    shoot(page, f"{width}-reset")
    log_in(page, cast.owner.email)
    for name in ("", "keys/", "keys/new/", "usage/", "settings/"):
        page.goto(f"/o/{cast.organization.public_id}/{name}")
        assert fits(page), name
        shoot(page, f"{width}-{name.strip('/').replace('/', '-') or 'overview'}")
    if width < 960:
        page.get_by_role("button", name="Navigation").click()
    page.get_by_text("Acme", exact=True).first.click()
    assert fits(page), "with the switcher open"
    shoot(page, f"{width}-switcher")


def test_pages_work_without_script(open_page: Any) -> None:
    cast = build_cast()
    page = open_page(java_script_enabled=False)
    log_in(page, cast.owner.email)
    page.goto(f"/o/{cast.organization.public_id}/keys/new/")
    page.get_by_label("Name").fill("Plain")
    page.get_by_role("button", name="Create key").click()
    assert lookup_of(page.locator("#secret").text_content())
    page.goto(f"/o/{cast.organization.public_id}/settings/")
    page.get_by_label("Account of").click()
    page.get_by_role("button", name="Dark").click()
    assert page.locator("html").get_attribute("data-theme") == "dark"


def test_suspended_and_simulated_are_said(open_page: Any, settings: Any) -> None:
    settings.ENGINE = "simulated"
    cast = build_cast()
    page = open_page()
    log_in(page, cast.suspended.email)
    assert page.get_by_text("Simulated engine: answers are made up").is_visible()
    assert page.get_by_text("This organization is suspended.").is_visible()
    shoot(page, "suspended")
    page.get_by_role("link", name="Usage", exact=True).click()
    shoot(page, "usage-empty")


def test_staff_admin(open_page: Any) -> None:
    cast = build_cast()
    page = open_page()
    page.goto("/admin/")
    page.get_by_label("Email").fill(cast.staff.email)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Log in", exact=True).click()
    page.wait_for_url("**/admin/")
    shoot(page, "admin-index")
    page.goto("/admin/tenants/organization/")
    shoot(page, "admin-organizations")
    page.goto(f"/admin/tenants/organization/{cast.organization.pk}/change/")
    shoot(page, "admin-organization")
    page.get_by_role("link", name="Suspend").first.click()
    page.get_by_role("button", name="Suspend").wait_for()
    shoot(page, "admin-suspend")
    page.goto("/admin/tenants/apikey/")
    shoot(page, "admin-keys")


def test_error_page(chromium: Any, live_server: Any) -> None:
    """Outside ``open_page``, because a 404 is an error on the browser's console."""
    page = chromium.new_page(base_url=live_server.url, viewport=WIDE)
    page.goto("/absent/")
    assert page.get_by_role("heading", name="Nothing here").is_visible()
    shoot(page, "404")
    page.close()
