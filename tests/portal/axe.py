"""axe-core's judgement of a page that a browser shows (WCAG 2.2 A and AA, best practices)."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.sync_playwright import Axe

AXE = Axe()
OPTIONS = {"resultTypes": ["violations"]}


def violations(page: Any) -> list[str]:
    """One line for each violation: the rule, how bad it is, where; nothing on a good page."""
    found = AXE.run(page, options=OPTIONS).response["violations"]
    return [
        f"{rule['id']} ({rule['impact']}): {node['target']} {node['failureSummary']}"
        for rule in found
        for node in rule["nodes"]
    ]
