"""``python -m benchmarks.pages``: what a person waits for, in headless Chromium.

Against the platform that `make up` started, as the demo's owner and as staff: the server's
time, first contentful paint, layout shift, and the compressed bytes of script and of the
whole page, for a browser that has nothing in its cache (``cold``) and for one that has.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.report import make_table

OWNER = (
    "",
    "playground/",
    "keys/",
    "keys/new/",
    "usage/",
    "projects/",
    "members/",
    "audit/",
    "settings/",
)
STAFF = ("/admin/", "/admin/tenants/organization/", "/admin/design/")
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
SETTLE_MS = 400  # shifts come after the paint: fonts, scripts
MOST_FCP_MS, MOST_SHIFT, MOST_SCRIPT_KB = 1000.0, 0.0, 150.0

# Shifts are buffered from the start of the page; paints and transfers stand in the timeline.
READ = """settle => new Promise(done => {
    let shift = 0;
    new PerformanceObserver(list => {
        for (const entry of list.getEntries()) shift += entry.value;
    }).observe({ type: 'layout-shift', buffered: true });
    setTimeout(() => {
        const page = performance.getEntriesByType('navigation')[0];
        const paint = performance.getEntriesByName('first-contentful-paint')[0];
        const files = performance.getEntriesByType('resource');
        const sum = list => list.reduce((total, each) => total + each.encodedBodySize, 0);
        done({
            server_ms: page.responseStart - page.requestStart,
            fcp_ms: paint ? paint.startTime : null,
            shift,
            script_kb: sum(files.filter(each => each.initiatorType === 'script')) / 1024,
            page_kb: (sum(files) + page.encodedBodySize) / 1024,
        });
    }, settle);
})"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=5, help="loads of each page, of which the median"
    )
    parser.add_argument("--state-dir", default=os.environ.get("SLUICE_STATE_DIR", ".sluice"))
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    demo = _demo(Path(options.state_dir) / "demo.env")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        rows = [
            *_walk(browser, demo, "OWNER", OWNER, options.rounds),
            *_walk(browser, demo, "STAFF", STAFF, options.rounds),
        ]
        browser.close()
    print(_table(rows))
    late = [row["page"] for row in rows if _misses(row)]
    if late:
        print(f"\nOver the budget: {', '.join(late)}", file=sys.stderr)
    return bool(late)


def _demo(path: Path) -> dict[str, str]:
    lines = (line.removeprefix("export ") for line in path.read_text().splitlines())
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {name: value.strip("'\"") for name, value in pairs}


def _walk(
    browser: Any, demo: dict[str, str], who: str, paths: tuple[str, ...], rounds: int
) -> list[dict[str, Any]]:
    state, organization = _log_in(browser, demo, who)
    rows = []
    for path in paths:
        address = path if path.startswith("/") else f"/o/{organization}/{path}"
        cold = [_load(browser, demo, state, address) for _ in range(rounds)]
        rows.append({"page": address.replace(organization, "…"), **_medians(cold)})
        rows[-1]["warm_fcp_ms"] = _warm(browser, demo, state, address, rounds)
    return rows


def _log_in(browser: Any, demo: dict[str, str], who: str) -> tuple[Any, str]:
    context = browser.new_context(base_url=demo["SLUICE_URL"])
    page = context.new_page()
    page.goto("/accounts/login/")
    page.get_by_label("Email").fill(demo[f"SLUICE_{who}_EMAIL"])
    page.get_by_label("Password", exact=True).fill(demo[f"SLUICE_{who}_PASSWORD"])
    page.get_by_role("button", name="Log in", exact=True).click()
    page.wait_for_load_state()
    page.goto("/")
    state, organization = context.storage_state(), page.url.rstrip("/").rpartition("/")[2]
    context.close()
    return state, organization


def _load(browser: Any, demo: dict[str, str], state: Any, address: str) -> dict[str, float]:
    context = browser.new_context(base_url=demo["SLUICE_URL"], storage_state=state)
    page = context.new_page()
    page.goto(address)
    measured: dict[str, float] = page.evaluate(READ, SETTLE_MS)
    context.close()
    return measured


def _warm(browser: Any, demo: dict[str, str], state: Any, address: str, rounds: int) -> float:
    context = browser.new_context(base_url=demo["SLUICE_URL"], storage_state=state)
    page = context.new_page()
    page.goto(address)
    times = []
    for _ in range(rounds):
        page.goto(address)
        times.append(page.evaluate(READ, SETTLE_MS)["fcp_ms"])
    context.close()
    return statistics.median(times)


def _medians(loads: list[dict[str, float]]) -> dict[str, float]:
    figures = {name: statistics.median(load[name] for load in loads) for name in loads[0]}
    # One page that jumps is one too many.
    return figures | {"shift": max(load["shift"] for load in loads)}


def _misses(row: dict[str, Any]) -> bool:
    return (
        row["fcp_ms"] > MOST_FCP_MS
        or row["script_kb"] > MOST_SCRIPT_KB
        or round(row["shift"], 4) > MOST_SHIFT
    )


def _table(rows: list[dict[str, Any]]) -> str:
    head = (
        "page",
        "server ms",
        "FCP cold ms",
        "FCP warm ms",
        "layout shift",
        "script KB",
        "all KB",
    )
    names = ("server_ms", "fcp_ms", "warm_fcp_ms", "shift", "script_kb", "page_kb")
    digits = (0, 0, 0, 4, 1, 0)
    lines = [
        [row["page"], *(f"{row[name]:.{size}f}" for name, size in zip(names, digits, strict=True))]
        for row in rows
    ]
    return make_table(head, lines)


if __name__ == "__main__":
    sys.exit(main())
