"""``python -m deploy.docker.setup [--default-models] [--demo]``: prepare, once, and end.

Migrates, pulls the default models if asked to, makes what an installation needs before
its first request (``manage.py bootstrap``), and the demo organizations if asked to.
Every step is idempotent: a run that was cut off is simply repeated.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence


def commands(*, default_models: bool, demo: bool) -> list[tuple[str, ...]]:
    """Arguments of ``manage.py`` in their order. A demo needs the default models."""
    planned: list[tuple[str, ...]] = [("migrate", "--no-input")]
    if default_models or demo:
        planned.append(("pull_model", "--default"))
    planned.append(("bootstrap",))
    if demo:
        planned.append(("create_demo",))
    return planned


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.docker.setup", description=__doc__)
    parser.add_argument("--default-models", action="store_true", help="pull both default models")
    parser.add_argument("--demo", action="store_true", help="make demo organizations and keys")
    chosen = parser.parse_args(arguments)
    for command in commands(default_models=chosen.default_models, demo=chosen.demo):
        print(f"setup: manage.py {' '.join(command)}", flush=True)
        result = subprocess.run([sys.executable, "manage.py", *command], check=False)
        if result.returncode:
            return result.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
