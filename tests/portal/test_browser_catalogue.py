"""Batches, models and documentation in a real browser: live, wide, dark and as phones are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inference.batches.commit import LineResult, commit_results
from inference.batches.lines import claim_lines
from inference.models import Model
from tests.cast import build_cast
from tests.jobs import run_due_jobs
from tests.portal.axe import violations
from tests.portal.gallery import log_in
from tests.portal.test_batches import MODEL, make
from tests.portal.test_browser import (
    chromium,  # noqa: F401 - a fixture of open_page
    fits,
    open_page,  # noqa: F401 - a fixture
    pytestmark,  # noqa: F401 - holds here too
    shoot,
)
from tests.portal.test_models import deploy

LOOKS: dict[str, dict[str, Any]] = {
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 780}},
}
# Colours are tokens: what is fine on these is fine on the others.
IN_THE_DARK = ("batch", "model", "docs-limits")


def test_batches_models_and_documents(
    open_page: Any,  # noqa: F811 - the fixture
    settings: Any,
    tmp_path: Path,
) -> None:
    settings.OBJECT_STORE = str(tmp_path / "objects")
    cast = build_cast()
    Model.objects.create(name=MODEL, kind=Model.Kind.CHAT)
    deploy("meta/llama-3.1-8b-instruct")
    batch = make(cast, 40)
    root = f"/o/{cast.organization.public_id}/"
    page = open_page()
    log_in(page, cast.owner.email)
    page.goto(f"{root}batches/{batch.public_id}/")
    page.get_by_text("0 of 40").wait_for()
    commit_results([LineResult(held, True, b"{}") for held in claim_lines(batch, "tests", 40)])
    page.get_by_text("40 of 40").wait_for()
    run_due_jobs()
    page.get_by_role("link", name="Download results").wait_for()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download results").click()
    assert download.value.suggested_filename == f"{batch.public_id}_output.jsonl"
    shown = {
        "batches": f"{root}batches/",
        "batch": f"{root}batches/{batch.public_id}/",
        "batch-new": f"{root}batches/new/?file={batch.input_file}",
        "file-upload": f"{root}files/upload/",
        "models": f"{root}models/",
        "model": f"{root}models/meta/llama-3.1-8b-instruct/",
        "docs-quick-start": "/docs/",
        "docs-limits": "/docs/limits/",
        "docs-changelog": "/docs/changelog/",
    }
    for look, options in LOOKS.items():
        other = open_page(storage_state=page.context.storage_state(), **options)
        for name, path in shown.items():
            if look == "dark" and name not in IN_THE_DARK:
                continue
            other.goto(path)
            assert fits(other), (look, name)
            assert violations(other) == [], (look, name)
            shoot(other, f"{name}-{look}")


def test_a_server_that_is_away_is_said_and_asked_again(
    open_page: Any,  # noqa: F811 - the fixture
    settings: Any,
    tmp_path: Path,
) -> None:
    settings.OBJECT_STORE = str(tmp_path / "objects")
    cast = build_cast()
    Model.objects.create(name=MODEL, kind=Model.Kind.CHAT)
    batch = make(cast)
    page = open_page()
    log_in(page, cast.owner.email)
    page.goto(f"/o/{cast.organization.public_id}/batches/{batch.public_id}/")
    # An answer of somebody else's, as a proxy gives one: no console error, but not ours.
    page.route("**/progress/", lambda route: route.fulfill(body="<p>Maintenance</p>"))
    page.get_by_text("Not up to date").wait_for()
    page.get_by_text("0 of 3").wait_for()
    page.unroute("**/progress/")
    page.get_by_text("Not up to date").wait_for(state="detached", timeout=20_000)
