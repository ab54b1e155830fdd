"""The page of the design, in a browser: every component by axe, by keyboard, without script."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.staticfiles import finders
from django.test import Client

from tests.cast import PASSWORD, Cast, build_cast
from tests.portal.axe import violations
from tests.portal.conftest import log_in as client_of
from tests.portal.test_browser import (  # noqa: F401 - fixtures are found by their names
    WIDE,
    chromium,
    fits,
    log_in,
    open_page,
    shoot,
)
from tests.portal.test_browser import pytestmark as in_a_browser

PHONE = {"width": 360, "height": 740}
MOST_SCRIPT = 150 * 1024
DESIGN = "/admin/design/"


def log_in_staff(page: Any, cast: Cast) -> None:
    page.goto(f"/accounts/login/?next={DESIGN}")
    page.get_by_label("Email").fill(cast.staff.email)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Log in", exact=True).click()
    page.wait_for_url(f"**{DESIGN}")


@pytest.mark.django_db
def test_only_staff_see_it(cast: Cast) -> None:
    assert client_of(cast.staff).get(DESIGN).status_code == 200
    assert client_of(cast.owner).get(DESIGN).status_code == 302
    assert Client().get(DESIGN).status_code == 302


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["", "keys/", "usage/", "members/", "audit/", "find/"])
def test_scripts_are_few(cast: Cast, path: str) -> None:
    html = client_of(cast.owner).get(f"/o/{cast.organization.public_id}/{path}").content.decode()
    assert 0 < _compressed(html) <= MOST_SCRIPT // 5


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/admin/", "/admin/tenants/organization/"])
def test_scripts_of_staff_pages_hold_the_budget(cast: Cast, path: str) -> None:
    assert 0 < _compressed(client_of(cast.staff).get(path).content.decode()) <= MOST_SCRIPT


def _compressed(html: str) -> int:
    sources = re.findall(r'<script[^>]* src="/static/([^"]+)"', html)
    return sum(len(gzip.compress(Path(finders.find(name)).read_bytes())) for name in sources)


class TestInABrowser:
    pytestmark = in_a_browser

    @pytest.mark.parametrize("options", [
        {"color_scheme": "light"}, {"color_scheme": "dark", "viewport": PHONE},
        {"color_scheme": "dark"},
    ], ids=["light", "phone", "dark"])  # fmt: skip
    def test_axe_finds_nothing(self, open_page: Any, options: dict[str, Any]) -> None:  # noqa: F811
        cast = build_cast()
        page = open_page(**options, reduced_motion="reduce")
        log_in_staff(page, cast)
        assert violations(page) == []
        assert fits(page)
        shoot(page, f"design-{options['color_scheme']}-{options.get('viewport', WIDE)['width']}")
        if page.viewport_size["width"] < 960:
            page.get_by_role("button", name="Navigation").click()
            assert violations(page) == []
            page.keyboard.press("Escape")
            assert not page.get_by_role("link", name="Profile").is_visible()

    def test_sorting_filtering_and_turning_pages(self, open_page: Any) -> None:  # noqa: F811
        cast = build_cast()
        page = open_page()
        log_in_staff(page, cast)
        first = page.locator("tbody .row-link").first
        page.get_by_role("link", name="Tokens/s").click()
        assert page.locator("th[aria-sort=descending]").inner_text() == "Tokens/s"
        page.get_by_role("link", name="Next", exact=True).click()
        assert "page=2" in page.url and "sort=-speed" in page.url
        page.get_by_label("Status").select_option("Dead")  # sends itself
        page.wait_for_url("**state=dead**")
        assert "sort=-speed" in page.url and "page" not in page.url and "q=" not in page.url
        assert first.is_visible()
        page.get_by_label("Search", exact=True).fill("nowhere")
        page.get_by_role("button", name="Filter").click()
        page.get_by_text("Nothing matches").wait_for()

    def test_a_dialog_opens_on_top_and_closes(self, open_page: Any) -> None:  # noqa: F811
        cast = build_cast()
        page = open_page()
        log_in_staff(page, cast)
        page.get_by_role("link", name="Dialog").click()
        dialog = page.get_by_role("dialog", name="Drain replica-01?")
        dialog.wait_for()
        assert violations(page) == []
        shoot(page, "dialog")
        dialog.get_by_role("link", name="Keep it").click()
        assert dialog.count() == 0 and page.url.endswith(DESIGN)
        page.route("**dialog=1", lambda route: route.abort())
        page.get_by_role("link", name="Dialog").focus()
        page.unroute("**dialog=1")

    def test_a_chart_tells_its_figures(self, open_page: Any) -> None:  # noqa: F811
        cast = build_cast()
        page = open_page()
        log_in_staff(page, cast)
        chart = page.get_by_role("figure", name="Tokens by day and model")
        chart.locator(".slot").nth(3).hover(force=True)
        tip = chart.locator(".chart-tip")
        row = page.locator("#stacked-table tbody tr").nth(3)
        assert tip.locator("p").inner_text() == row.locator("th").text_content()
        told = tip.locator("dd").all_inner_texts()
        assert sorted(told) == sorted(row.locator("td").all_text_contents())
        page.mouse.move(5, 5)
        assert not tip.is_visible()

    def test_the_language_of_examples_is_remembered(self, open_page: Any) -> None:  # noqa: F811
        cast = build_cast()
        page = open_page()
        log_in_staff(page, cast)
        assert page.locator("#sample-curl").is_visible()
        page.get_by_role("radio", name="Python").check(force=True)
        assert page.locator("#sample-python").is_visible()
        assert not page.locator("#sample-curl").is_visible()
        page.reload()
        assert page.locator("#sample-python").is_visible()

    def test_the_palette_by_keyboard(self, open_page: Any) -> None:  # noqa: F811
        cast = build_cast()
        page = open_page()
        log_in(page, cast.owner.email)
        page.keyboard.press("Control+k")
        palette = page.get_by_role("dialog", name="Search")
        palette.get_by_role("option", name="Overview").wait_for()
        assert violations(page) == []
        page.keyboard.type("owner's")
        palette.get_by_role("option", name="Owner's key").wait_for()
        shoot(page, "palette")
        page.keyboard.press("Enter")
        page.wait_for_url("**/keys/key_*/")
        page.keyboard.press("Control+k")
        page.keyboard.type("no such thing")
        palette.get_by_text("Nothing found").wait_for()
        page.keyboard.press("Escape")
        assert not palette.is_visible()

    def test_a_dead_search_is_said(self, chromium: Any, live_server: Any) -> None:  # noqa: F811
        """Outside ``open_page``, because an aborted request is an error on the console."""
        cast = build_cast()
        page = chromium.new_page(base_url=live_server.url, viewport=WIDE)
        log_in(page, cast.owner.email)
        page.route("**/find/**", lambda route: route.abort())
        page.keyboard.press("Control+k")
        page.get_by_text("The search does not answer").wait_for()
        page.close()

    def test_drawer_search_and_sorting_without_script(self, open_page: Any) -> None:  # noqa: F811
        cast = build_cast()
        page = open_page(java_script_enabled=False, viewport=PHONE)
        log_in(page, cast.owner.email)
        page.get_by_role("button", name="Navigation").click()
        page.get_by_role("link", name="Usage", exact=True).click()
        page.wait_for_url("**/usage/")
        page.get_by_role("link", name="Search").first.click()
        page.get_by_label("Pages, projects").fill("owner's")
        page.get_by_role("button", name="Search").click()
        page.get_by_role("link", name="Owner's key").click()
        page.wait_for_url("**/keys/key_*/")


def test_every_page_has_one_colour_for_both_themes() -> None:
    """A colour outside the tokens would be wrong in one of the themes."""
    for sheet in ("layout", "navigation", "components", "data"):
        text = Path(settings.BASE_DIR, f"portal/static/portal/{sheet}.css").read_text()
        colours = set(re.findall(r"#[0-9a-f]{3,8}\b", text))
        # On code blocks, which are dark in both.
        assert colours <= {"#fff", "#9aa6b5", "#4fc1b8"}, sheet
