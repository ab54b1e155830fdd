"""``manage.py measure_profile``: a running replica's measured speed, for the simulated engine.

The replica learns it from its own steps under whatever load it has; the more loads it has
had in the last busy minutes, the better the line through its decode steps. It is read
from the replica's ``/metrics``, so nothing is disturbed.
"""

from __future__ import annotations

import json
import re
from argparse import ArgumentParser
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from django.core.management.base import BaseCommand, CommandError

from workers.engine.speed import MeasuredProfile

SERIES = {
    "prefill_tokens_per_s": ("sluice_replica_prefill_tokens_per_second", 1),
    "decode_ms": ("sluice_replica_decode_base_seconds", 1000),
    "decode_ms_per_running": ("sluice_replica_decode_per_running_seconds", 1000),
}


class Command(BaseCommand):
    help = "Write a running replica's measured speed as a profile for SIMULATED_PROFILE."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "metrics", help="http://host:WORKER_METRICS_PORT/metrics of the replica"
        )
        parser.add_argument(
            "--out", type=Path, help="The file to write; standard output if left out"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        profile = read_profile(fetch(options["metrics"]))
        content = json.dumps(profile.as_dict(), indent=2)
        if options["out"] is None:
            self.stdout.write(content)
        else:
            options["out"].write_text(content + "\n")
            self.stdout.write(f"Wrote {options['out']}.")


def fetch(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise CommandError("The address must be of http or https.")
    try:
        with urlopen(url, timeout=10) as answer:  # noqa: S310 - the scheme is checked above
            content: bytes = answer.read()
    except OSError as error:
        raise CommandError(f"The replica's metrics cannot be read: {error}") from error
    return content.decode()


def read_profile(metrics: str) -> MeasuredProfile:
    """From Prometheus's text. CommandError for a replica that has measured nothing."""
    values = {}
    for field, (series, factor) in SERIES.items():
        found = re.search(rf"^{series} (\S+)$", metrics, re.MULTILINE)
        if found is None:
            raise CommandError(f"{series} is not among the metrics: is this an engine worker?")
        values[field] = round(float(found[1]) * factor, 4)
    if not values["prefill_tokens_per_s"] or not (
        values["decode_ms"] or values["decode_ms_per_running"]
    ):
        raise CommandError("This replica has measured nothing yet: give it some load first.")
    return MeasuredProfile(**values)
