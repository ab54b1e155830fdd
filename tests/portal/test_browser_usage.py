"""Usage, requests and limits in a real browser; live requests on a platform that runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx

from tests.cast import build_cast
from tests.harness.platform import CHAT_MODEL, Platform
from tests.portal.axe import violations
from tests.portal.test_browser import (  # noqa: F401 - fixtures are found by their names
    WIDE,
    add_usage,
    chromium,
    fits,
    log_in,
    open_page,
    pytestmark,
    shoot,
)
from tests.portal.test_browser_playground import enter, visit  # noqa: F401

NARROW = {"width": 360, "height": 740}


def ask(platform: Platform) -> str:
    """One chat; the id that its usage has."""
    answer = httpx.post(
        f"{platform.url}/v1/chat/completions",
        headers={"authorization": f"Bearer {platform.demo['OPENAI_API_KEY']}"},
        json={
            "model": CHAT_MODEL,
            "max_tokens": 4,
            "messages": [{"role": "user", "content": "Hi"}],
        },
        timeout=30,
    )
    assert answer.status_code == 200
    return answer.headers["x-request-id"]


def test_a_request_appears_while_one_looks_and_after_the_line_was_cut(
    visit: Callable[..., Any],  # noqa: F811
    simulated: Platform,
) -> None:
    page = visit()
    # Sockets, so that one can be cut: what the browser cannot do by itself.
    page.add_init_script(
        "const Real = WebSocket; window.sockets = [];"
        "window.WebSocket = class extends Real {"
        "  constructor(...given) { super(...given); window.sockets.push(this); } };"
    )
    root = enter(page, simulated)
    page.goto(f"{root}usage/")
    page.locator("[data-live-state][data-is=live]").wait_for()
    began = time.monotonic()
    request_id = ask(simulated)
    row = page.locator(f"tr[data-request='{request_id}']")
    row.wait_for()
    assert time.monotonic() - began < 5
    assert CHAT_MODEL in row.inner_text() and "Completed" in row.inner_text()

    page.evaluate("window.sockets.at(-1).close()")
    page.locator("[data-live-state][data-is=away]").wait_for()
    missed = ask(simulated)
    page.locator(f"tr[data-request='{missed}']").wait_for()
    page.locator("[data-live-state][data-is=live]").wait_for()
    assert page.locator("[data-live-rows] tr").count() <= 10
    assert violations(page) == []
    page.locator(f"tr[data-request='{missed}'] a").click()
    page.get_by_role("heading", name=missed).wait_for()
    assert violations(page) == []
    shoot(page, "usage-request")


def test_pages_of_usage_are_accessible_and_fit(open_page: Any) -> None:  # noqa: F811
    cast = build_cast()
    add_usage(cast.organization)
    page = open_page(reduced_motion="reduce")  # or colours are caught on their way
    # The test's server has no sockets: the panel says so calmly, and nothing else complains.
    page.add_init_script(
        "window.WebSocket = class extends EventTarget { constructor() { super();"
        " setTimeout(() => this.dispatchEvent(new CloseEvent('close', {code: 1006})), 50); } };"
    )
    log_in(page, cast.owner.email)
    root = f"/o/{cast.organization.public_id}/"
    for name, path in (
        ("usage", "usage/?by=user"),
        ("usage-waits", "usage/?metric=wait&period=24h"),
        ("usage-total", "usage/?metric=cost&by=total&period=30d"),
        ("requests", "usage/requests/?status=failed&period=30d"),
        ("limits", "usage/limits/"),
        ("overview", ""),
    ):
        page.emulate_media(color_scheme="light")
        page.set_viewport_size(WIDE)
        page.goto(root + path)
        assert violations(page) == [], name
        if name in {"usage", "limits"}:
            page.emulate_media(color_scheme="dark")
            assert violations(page) == [], f"{name}, dark"
        page.set_viewport_size(NARROW)
        assert fits(page), name
    page.locator("[data-live-state][data-is=away]").wait_for()
    assert page.locator("[data-live-rows] tr").count() == 10, "what was rendered stays"


def test_filters_send_themselves_and_a_slice_leads_to_its_own(open_page: Any) -> None:  # noqa: F811
    cast = build_cast()
    add_usage(cast.organization)
    page = open_page()
    page.add_init_script("window.WebSocket = class extends EventTarget {};")
    log_in(page, cast.owner.email)
    page.goto(f"/o/{cast.organization.public_id}/usage/?period=30d&by=key")
    page.get_by_label("User").select_option(cast.owner.public_id)
    page.wait_for_url("**user=user_**")
    assert "period=30d" in page.url and "by=key" in page.url
    page.get_by_role("link", name="Owner's key").first.click()
    page.wait_for_url("**key=key_**")
    assert "user=user_" in page.url
