"""The slim image has the base dependencies only: what it runs must import with no more.

Everything else that is installed here is hidden from a process of its own, which then
imports what the web image starts. (Installing the base dependencies for real, into an
empty environment, takes too long for the suite; docs/rooms/deploy.md says how.)
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent.parent
HIDING = """
import sys, importlib.abc
hidden = set(sys.argv[1].split(","))
class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"{name} is not in the slim image", name=name)
sys.meta_path.insert(0, Hide())
import os, warnings
os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
warnings.simplefilter("ignore")
import django
django.setup()
import importlib
importlib.import_module(sys.argv[2])
"""


def base_distributions() -> set[str]:
    """The project's own requirements without extras, and all that those require."""
    found: set[str] = set()
    waiting = [Requirement(line) for line in metadata.requires("sluice") or ()]
    environment = {**default_environment(), "extra": ""}
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate(environment):
            continue
        wanted = {name, *(f"{name}[{extra}]" for extra in requirement.extras)}
        if wanted <= found:
            continue
        found |= wanted
        for line in metadata.requires(requirement.name) or ():
            inner = Requirement(line)
            marks = inner.marker
            extras = ("", *requirement.extras)
            if not marks or any(marks.evaluate({**environment, "extra": e}) for e in extras):
                inner.marker = None
                waiting.append(inner)
    return {name for name in found if "[" not in name}


def hidden_modules() -> set[str]:
    """Top-level modules that only distributions outside the base bring."""
    base = base_distributions()
    return {
        module
        for module, owners in metadata.packages_distributions().items()
        if not {canonicalize_name(owner) for owner in owners} & {*base, "sluice"}
        and module.isidentifier()
    }


@pytest.mark.parametrize(
    "module",
    [
        "config.asgi",
        "config.celery",
        "workers.control.tasks",
        "workers.engine.bootstep",
        "workers.jobs.tasks",
        "workers.engines.simulated",
        "workers.management.commands.bootstrap",
        "workers.management.commands.create_demo",
        "inference.management.commands.pull_model",
        "deploy.docker.replica",
    ],
)
def test_slim_image_can_import(module: str) -> None:
    result = run_hiding(module)
    assert result.returncode == 0, result.stderr


def test_engine_is_not_in_the_slim_image() -> None:
    assert {"torch", "vllm", "transformers", "numpy"} <= hidden_modules()
    result = run_hiding("vllm")
    assert result.returncode == 1
    assert "is not in the slim image" in result.stderr


def run_hiding(module: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HIDING, ",".join(sorted(hidden_modules())), module],
        cwd=ROOT,
        env=dict(os.environ),
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
