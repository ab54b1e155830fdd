"""The part of ``benchmarks.tenancy`` that is a process of the platform: Django, set up.

``python -m benchmarks.tenancy_process PLAN FOUND``; the environment names the databases.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import django

from benchmarks.server import say


def main(plan: Path, found: Path) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    # Models can be imported from here on.
    from benchmarks.key_lookups import lookups
    from benchmarks.listed_pages import pages
    from benchmarks.seed import Population, fill
    from tenants import scope

    sizes = json.loads(plan.read_text())
    population = Population(
        organizations=sizes["tenancy_organizations"],
        keys=sizes["tenancy_keys"],
        big_keys=sizes["tenancy_big_keys"],
        big_members=sizes["tenancy_big_members"],
        big_usage=sizes["tenancy_big_usage"],
        big_audit=sizes["tenancy_big_audit"],
    )
    with scope.entered(scope.Scope(login=scope.Login.OWNER)):
        fill(population)
    random.seed(population.seed)
    measures: dict[str, Callable[[], object]] = {
        "lookups": lambda: lookups(population, sizes["tenancy_lookups"]),
        "pages": lambda: pages(population, sizes["tenancy_rounds"]),
    }
    result: dict[str, object] = {
        "organizations": population.organizations,
        "keys": population.keys,
        "big": {
            "keys": population.big_keys,
            "members": population.big_members,
            "usage_events": population.big_usage,
            "audit_events": population.big_audit,
        },
    }
    for name, measure in measures.items():
        say(f"measuring {name}")
        result[name] = measure()
    found.write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
