"""``runtime.env``: what `make up` chose and generated, for every process of this clone.

``config.env`` reads it below the process environment, so ``manage.py`` beside a
running platform finds the same databases and secrets. ``demo.env`` is the demo's part,
for people's shells; ``manage.py create_demo`` writes it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from config.env import read_env_file
from deploy.local import files

SECRETS = ("SECRET_KEY", "API_KEY_PEPPER", "CACHE_SALT_SECRET", "FIELD_ENCRYPTION_KEY")


def write_runtime_env(state_dir: Path, chosen: Mapping[str, str]) -> dict[str, str]:
    """Store ``chosen`` beside the secrets, which are generated once; returns all of it."""
    path = state_dir / "runtime.env"
    known = read_env_file(path)
    # A secret that the environment sets is the operator's and is not copied into a file.
    values = {name: known.get(name) or files.new_secret() for name in SECRETS} | dict(chosen)
    lines = [f"{name}={value}" for name, value in values.items()]
    files.write_private(path, "\n".join(["# Written by `make up`.", *lines, ""]))
    return values


def read_demo_env(state_dir: Path) -> dict[str, str]:
    return read_env_file(state_dir / "demo.env")


def child_environment(state_dir: Path, runtime: Mapping[str, str]) -> dict[str, str]:
    """The environment of what `make up` runs: the caller's, over ``runtime``."""
    given = {name: value for name, value in os.environ.items() if value}
    return {
        **runtime,
        **given,
        "SLUICE_STATE_DIR": str(state_dir),
        "PYTHONUNBUFFERED": "1",
        "DJANGO_SETTINGS_MODULE": "config.settings",
    }
