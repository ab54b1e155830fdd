"""``manage.py settings_table``: every setting as a table, for ``docs/settings.md``."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

PAGE = Path("docs") / "settings.md"
BEGIN, END = "<!-- settings: begin -->", "<!-- settings: end -->"
HEAD = "| name | type | default | owner | what it does |\n| --- | --- | --- | --- | --- |\n"


class Command(BaseCommand):
    help = "Print the table of all settings, or write it into docs/settings.md."
    requires_system_checks = []  # type: ignore[misc]

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--write", action="store_true", help=f"Write it into {PAGE}.")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["write"]:
            self.stdout.write(render_table(), ending="")
            return
        path = Path(settings.BASE_DIR) / PAGE
        path.write_text(with_table(path.read_text()))
        self.stdout.write(f"{PAGE} is written.")


def render_table() -> str:
    """A Markdown table of what the settings module declared, in its order."""
    # By name, because doors do not import config.
    declared = import_module(settings.SETTINGS_MODULE).env.declared
    return HEAD + "".join(_row(setting) for setting in declared.values())


def with_table(page: str) -> str:
    """``page`` with its table made anew between the two marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise CommandError(f"{PAGE} has no place for the table: {BEGIN} … {END}.")
    return f"{before}{BEGIN}\n{render_table()}{END}{after}"


def _row(setting: Any) -> str:
    default = f"`{_portable(setting.default)}`" if setting.default else "empty"
    doc = setting.doc + (" **Secret.**" if setting.secret else "")
    cells = (f"`{setting.name}`", setting.kind, default, setting.owner, doc)
    return _line(cell.replace("|", "\\|") for cell in cells)


def _portable(default: str) -> str:
    """Paths of this machine as what they stand for."""
    checkout, state = str(settings.BASE_DIR), str(settings.STATE_DIR)
    if default == f"{checkout}/.sluice":
        return "<checkout>/.sluice"
    if default.startswith(f"{state}/"):
        return "<state dir>" + default.removeprefix(state)
    return default


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"
