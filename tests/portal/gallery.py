"""``make gallery``: a picture of every page as each role, light, dark and on a phone.

Not collected by the suite. All pictures go to ``tests/artifacts/gallery/`` (continuous
integration keeps them); one small one a page, as the role that sees most of it, goes to
``docs/gallery/``, and ``docs/gallery.md`` gets its list. A new page is one line of ``PAGES``.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from tests.cast import Cast, build_cast
from tests.portal.test_browser import (  # noqa: F401 - fixtures are found by their names
    ARTIFACTS,
    PASSWORD,
    WIDE,
    add_usage,
    chromium,
    open_page,
    pytestmark,
)
from tests.portal.test_browser_tenancy import furnish, pages_of
from tests.portal.test_models import deploy

ALL = ARTIFACTS / "gallery"
KEPT = Path(settings.BASE_DIR) / "docs" / "gallery"
LIST = Path(settings.BASE_DIR) / "docs" / "gallery.md"
BEGIN, END = "<!-- gallery -->", "<!-- /gallery -->"
ROLES = ("owner", "admin", "member", "billing", "viewer", "staff")
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": WIDE},
    "dark": {"color_scheme": "dark", "viewport": WIDE},
    "phone": {"color_scheme": "light", "viewport": {"width": 360, "height": 740}},
}
# Half the size and rough: about 15 KB a picture in the repository.
SMALL = {"scale": 0.5, "quality": 50}
WHOLE = {"scale": 1.0, "quality": 70}


@dataclass(frozen=True)
class Shown:
    name: str
    title: str
    path: str
    role: str = "owner"  # whose picture docs/gallery.md shows


def pages(cast: Cast, project: Any) -> list[Shown]:
    """Every page that has an address of its own, in the order of the navigation."""
    organization = f"/o/{cast.organization.public_id}/"
    known = pages_of(cast, project)
    return [
        Shown("login", "Log in", "/accounts/login/"),
        Shown("signup", "Sign up", "/accounts/signup/"),
        Shown("overview", "Overview", organization),
        *(Shown(name, name.replace("-", " ").capitalize(), path) for name, path in known.items()),
        Shown("usage", "Usage", f"{organization}usage/?period=30d"),
        Shown("requests", "Requests", f"{organization}usage/requests/?period=30d"),
        Shown("request", "One request", f"{organization}usage/requests/req_{0:016x}/"),
        Shown("limits", "Limits", f"{organization}usage/limits/"),
        Shown("models", "Models", f"{organization}models/"),
        Shown("model", "A model", f"{organization}models/meta/llama-3.1-8b-instruct/"),
        Shown("batches", "Batches", f"{organization}batches/"),
        Shown("files", "Files", f"{organization}files/"),
        Shown("file-upload", "Upload a file", f"{organization}files/upload/"),
        Shown("docs", "Quick start", "/docs/"),
        Shown("docs-errors", "Errors", "/docs/errors/"),
        Shown("docs-search", "Search of the documentation", "/docs/search/?q=batch"),
        Shown("caching", "Caching", f"{organization}settings/caching/"),
        Shown("find", "Search", f"{organization}find/?q=key"),
        Shown("profile", "Profile", "/accounts/profile/"),
        Shown("security", "Security", "/accounts/security/"),
        Shown("design", "Design", "/admin/design/", "staff"),
        Shown("admin", "Staff: dashboard", "/admin/", "staff"),
        Shown("admin-fleet", "Staff: fleet", "/admin/inference/replica/fleet/", "staff"),
        Shown("admin-announcements", "Staff: announcements", "/admin/tenants/announcement/", "staff"),
        Shown("admin-organizations", "Staff: organizations", "/admin/tenants/organization/", "staff"),
        Shown("admin-organization", "Staff: an organization",
              f"/admin/tenants/organization/{cast.organization.pk}/change/", "staff"),
    ]  # fmt: skip


def test_gallery(open_page: Any) -> None:  # noqa: F811
    cast = build_cast()
    project = furnish(cast)
    add_usage(cast.organization)
    deploy("meta/llama-3.1-8b-instruct")
    shown = pages(cast, project)
    seen_by: dict[str, list[str]] = {page.name: [] for page in shown}
    for folder in (ALL, KEPT):
        folder.mkdir(parents=True, exist_ok=True)
    for role in ROLES:
        for look, options in LOOKS.items():
            browser = open_page(**options, reduced_motion="reduce")
            log_in(browser, getattr(cast, role).email)
            walk(browser, shown, role, look, seen_by)
    write_list(shown, seen_by)


def log_in(page: Any, email: str) -> None:
    page.goto("/accounts/login/?next=/accounts/profile/")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Log in", exact=True).click()
    page.wait_for_url("**/accounts/profile/")


def walk(
    browser: Any, shown: list[Shown], role: str, look: str, seen_by: dict[str, list[str]]
) -> None:
    for page in shown:
        # What a role may not see is looked up without the browser, whose console would complain.
        answer = browser.request.get(page.path)
        if answer.status != 200 or not answer.url.endswith(page.path):
            continue
        browser.goto(page.path)
        shoot(browser, ALL / f"{page.name}-{role}-{look}.webp", WHOLE)
        if look == "light":
            seen_by[page.name].append(role)
            if role == page.role:
                shoot(browser, KEPT / f"{page.name}.webp", SMALL)


def shoot(page: Any, path: Path, size: dict[str, float]) -> None:
    """What the window shows, as WebP, which playwright does not write itself."""
    window = page.viewport_size
    clip = {"x": 0, "y": 0, "width": window["width"], "height": window["height"]}
    session = page.context.new_cdp_session(page)
    taken = session.send(
        "Page.captureScreenshot",
        {"format": "webp", "quality": size["quality"], "clip": clip | {"scale": size["scale"]}},
    )
    session.detach()
    path.write_bytes(base64.b64decode(taken["data"]))


def write_list(shown: list[Shown], seen_by: dict[str, list[str]]) -> None:
    lines = []
    for page in shown:
        if (KEPT / f"{page.name}.webp").exists():
            who = ", ".join(seen_by[page.name])
            lines += [f"### {page.title}", f"Seen by {who}.", "",
                      f"![{page.title}](gallery/{page.name}.webp)", ""]  # fmt: skip
    before, _, rest = LIST.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    LIST.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"{END}{after}")
