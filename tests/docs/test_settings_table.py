"""docs/settings.md tells of every setting, in the words of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management.base import CommandError

from config.settings import env
from workers.management.commands.settings_table import render_table, with_table

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "settings.md"


def test_page_is_what_the_code_says() -> None:
    page = PAGE.read_text()
    assert page == with_table(page), "run: manage.py settings_table --write"


def test_every_setting_has_a_row_an_owner_and_a_sentence() -> None:
    rows = render_table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == list(env.declared)
    for setting in env.declared.values():
        assert setting.owner in {
            "config", "tenants", "billing", "inference", "api", "portal", "workers"
        }, setting.name  # fmt: skip
        assert setting.doc.endswith("."), setting.name


def test_table_names_no_path_of_this_machine() -> None:
    table = render_table()
    assert str(ROOT) not in table
    assert str(settings.STATE_DIR) not in table
    assert "`<state dir>/models`" in table


def test_variables_of_make_up_are_told() -> None:
    """Those that no setting declares: read in deploy.local, or by the Makefile itself."""
    sources = "\n".join(path.read_text() for path in (ROOT / "deploy" / "local").glob("*.py"))
    read = set(
        re.findall(r'environ(?:ment)?\.get\("([A-Z_]+)"|_(?:number|json)\("([A-Z_]+)"', sources)
    )
    assert "$(DETACH)" in (ROOT / "Makefile").read_text()
    section = PAGE.read_text().split("## Variables of `make up`")[1].split("\n## ")[0]
    told = set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE))
    ours = {name for pair in read for name in pair if name} - set(env.declared)
    assert {"PORT", "CHAT_REPLICAS", "READY_TIMEOUT_S"} <= ours
    assert told == ours | {"DETACH"}


def test_page_without_a_place_for_the_table_is_refused() -> None:
    with pytest.raises(CommandError):
        with_table("# Settings\n")
