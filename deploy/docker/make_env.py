"""``python3 -m deploy.docker.make_env [--demo]``: a ``.env`` with fresh secrets, once.

Copies ``env.example`` and fills in what must be secret. An existing ``.env`` is left
alone: new secrets would revoke every API key and lock the databases' volumes. Standard
library only, and any Python from 3.8 on, because it runs on the host.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import sys
from pathlib import Path

EXAMPLE = Path(__file__).with_name("env.example")
SECRETS = (
    "SECRET_KEY",
    "API_KEY_PEPPER",
    "CACHE_SALT_SECRET",
    "FIELD_ENCRYPTION_KEY",
    "METRICS_TOKEN",
    "POSTGRES_PASSWORD",
    "DATABASE_OWNER_PASSWORD",
    "DATABASE_WEB_PASSWORD",
    "DATABASE_STAFF_PASSWORD",
    "REDIS_PASSWORD",
)
DEMO = {"SLUICE_ENV": "development", "SETUP_OPTIONS": "--default-models --demo"}


def filled(example: str, *, demo: bool) -> str:
    """``example`` with every secret made anew (hexadecimal: no quoting anywhere)."""
    values = {name: secrets.token_hex(32) for name in SECRETS}
    if demo:
        values.update(DEMO)
    for name, value in values.items():
        example, count = re.subn(rf"(?m)^{name}=.*$", f"{name}={value}", example)
        if count != 1:
            raise ValueError(f"{name} is not once in the example")
    return example


def main() -> int:
    parser = argparse.ArgumentParser(prog="deploy.docker.make_env", description=__doc__)
    parser.add_argument("--demo", action="store_true", help="development, with demo organizations")
    parser.add_argument("--output", type=Path, default=Path(".env"))
    chosen = parser.parse_args()
    text = filled(EXAMPLE.read_text(), demo=chosen.demo)
    try:
        handle = os.open(chosen.output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        print(f"{chosen.output} exists and is left as it is; delete it first for new secrets.")
        return 1
    with os.fdopen(handle, "w") as file:
        file.write(text)
    print(f"{chosen.output} is written. Next: docker compose up --build --detach")
    return 0


if __name__ == "__main__":
    sys.exit(main())
