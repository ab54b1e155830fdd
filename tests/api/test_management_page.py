"""The browsable page in a real browser, under its own Content-Security-Policy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no Chromium at {CHROMIUM}")


def test_the_page_shows_the_document_and_asks_nobody_else(
    transactional_db: None, live_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Playwright's sync API runs an event loop in this thread.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    asked: list[str] = []
    complaints: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else 0)
        page.goto(f"{live_server.url}/docs/api/")
        page.wait_for_selector("text=List projects, oldest first", timeout=60_000, state="attached")
        browser.close()
    # Redoc would like to show its maker's logo; the policy does not let it ask.
    complaints = [text for text in complaints if "logo-mini.svg" not in text]
    elsewhere = [url for url in asked if not url.startswith((live_server.url, "data:", "blob:"))]
    elsewhere = [url for url in elsewhere if "logo-mini.svg" not in url]
    assert complaints == [] and elsewhere == []
