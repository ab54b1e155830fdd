"""Reads docker-compose.yml and the Dockerfile as far as the tests ask."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "Dockerfile"
EXAMPLE = ROOT / "deploy" / "docker" / "env.example"
# ${NAME}, ${NAME:-default}, ${NAME:?message}; $$ is a dollar sign.
VARIABLE = re.compile(r"(?<!\$)\$\{(?P<name>[A-Z_]+)(?:(?P<kind>:[-?])(?P<rest>[^}]*))?\}")


def compose(path: Path = COMPOSE) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    return content


def variables(path: Path = COMPOSE) -> dict[str, set[str]]:
    """Each variable that compose fills in, with how: "", ":-default" or ":?message"."""
    text = re.sub(r"(?m)^\s*#.*$", "", path.read_text())
    found: dict[str, set[str]] = {}
    for match in VARIABLE.finditer(text):
        way = (match["kind"] or "") + (match["rest"] or "")
        found.setdefault(match["name"], set()).add(way)
    return found


def example_values() -> dict[str, str]:
    lines = EXAMPLE.read_text().splitlines()
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return {name: value for name, value in pairs}


def stages() -> dict[str, tuple[str, list[str]]]:
    """Stage name to what it is FROM and its instructions, continuation lines joined."""
    text = re.sub(r"(?m)^\s*#.*\n", "", DOCKERFILE.read_text()).replace("\\\n", " ")
    found: dict[str, tuple[str, list[str]]] = {}
    current: list[str] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        if match := re.match(r"FROM (\S+) AS (\S+)$", line):
            current = []
            found[match[2]] = (match[1], current)
        else:
            current.append(line)
    return found


def ancestry(stage: str) -> list[str]:
    """The instructions of a stage after those of all it is built upon."""
    parent, own = stages()[stage]
    return (ancestry(parent) if parent in stages() else []) + own
