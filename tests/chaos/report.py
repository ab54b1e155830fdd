"""What a run says: a table for people, JSON for whoever compares runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos.invariants import Finding
from tests.chaos.trial import Result

_COUNTS = ("requests", "complete", "refused", "cut", "failed", "retried")


def table(results: Sequence[Result]) -> str:
    """Markdown: a row a scenario."""
    head = ["scenario", *_COUNTS, "faults", "served again after s", "longest silence s", "holds"]
    lines = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 2)} --- |"]
    for result in results:
        recovery = "" if result.worst_recovery_s is None else f"{result.worst_recovery_s:.1f}"
        held = sum(finding.holds for finding in result.findings)
        cells = [
            result.name.replace("_", " "),
            *(f"{result.counts[name]:,}" for name in _COUNTS),
            str(len(result.faults)),
            recovery,
            f"{result.longest_silence_s:.1f}",
            f"{held} of {len(result.findings)}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def findings(results: Sequence[Result], overall: Sequence[Finding]) -> str:
    """A line an invariant; those that do not hold stand out."""
    lines = []
    for name, found in [*((each.name, each.findings) for each in results), ("all", overall)]:
        for finding in found:
            lines.append(
                f"{'ok  ' if finding.holds else 'FAIL'} {name}: {finding.name}: {finding.said}"
            )
    return "\n".join(lines)


def write(
    path: Path, seed: int, engine: str, results: Sequence[Result], overall: Sequence[Finding]
) -> None:
    content = {
        "seed": seed,
        "engine": engine,
        "ended_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "holds": all(each.holds for each in [*results, *overall]),
        "scenarios": [result.as_dict() for result in results],
        "overall": [{"name": f.name, "holds": f.holds, "said": f.said} for f in overall],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
