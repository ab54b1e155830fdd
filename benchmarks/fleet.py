"""More replicas and more customers for a platform that is up."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import sluice
from benchmarks.prompts import BASE_DIR
from benchmarks.server import LOGS, PYTHON, BenchmarkError, Server, child, say
from deploy.local.programs import CHAT_DEPLOYMENT

# Of a real replica, measured (benchmarks/profiles/README.md).
MEASURED = BASE_DIR / "benchmarks" / "profiles" / "smollm2-135m-cpu-2-cores.json"
# After its first heartbeat every gateway knows a replica.
KNOWN_AFTER_S = 2.0

# Organizations with a project and a key each, on the demo's plan, whose limits were raised
# out of reach; all may ask for every tier.
_CUSTOMERS = """
import json, sys
from django.db import transaction
from tenants.actions import create_api_key, notify_all_changed
from tenants.models import Organization, Plan, Project
keys = []
with transaction.atomic():
    Plan.objects.update(allows_priority=True)
    plan = Organization.objects.order_by("pk").first().plan
    for number in range({count}):
        organization = Organization.objects.create(name=f"Customer {{number}}", plan=plan)
        project = Project.objects.create(organization=organization, name="Default project")
        keys.append(create_api_key(project, "bench", acting_user=None)[1])
    notify_all_changed()
print("KEYS " + json.dumps(keys))
"""


@contextmanager
def more_replicas(count: int, profile: str) -> Iterator[None]:
    """``count`` replicas of the chat deployment beside the platform's own, in one process."""
    if not count:
        yield
        return
    name = f"fleet-{count}"
    log = LOGS / f"{name}.log"
    say(f"starting {count} more replicas in one process")
    command = (PYTHON, "-m", "benchmarks.fleet_host", CHAT_DEPLOYMENT, str(count))
    environment = sluice.process_environment("simulated", profile)
    with child(name, command, environment, lambda: "the fleet is ready" in _text(log)):
        time.sleep(KNOWN_AFTER_S)
        yield


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""


def customers(count: int) -> list[str]:
    """Secrets of ``count`` new organizations' keys."""
    result = subprocess.run(
        (PYTHON, "manage.py", "shell", "-c", _CUSTOMERS.format(count=count)),
        cwd=BASE_DIR,
        env=sluice.process_environment("simulated", "instant"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=sluice.MANAGE_TIMEOUT_S,
        check=False,
    )
    for line in result.stdout.splitlines():
        if line.startswith("KEYS "):
            keys: list[str] = json.loads(line.removeprefix("KEYS "))
            time.sleep(KNOWN_AFTER_S)
            return keys
    raise BenchmarkError(f"The customers could not be made: {result.stderr[-500:]}")


def of_customer(server: Server, key: str) -> Server:
    """``server`` as one of its customers calls it."""
    return Server(server.name, server.url, server.model, server.roots, key)
