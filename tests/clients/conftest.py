"""A platform's address and key as the clients' own environment variables."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients import node
from tests.harness.platform import CHAT_MODEL, Platform

# What a program gets to run in, and seconds that it may take.
Program = Callable[..., str]
PROGRAM_TIMEOUT_S = 120


@pytest.fixture(scope="session")
def environment(live: Platform) -> dict[str, str]:
    """Of a developer who did ``. demo.env``; nothing of the suite's own is in it."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ} | live.demo


@pytest.fixture(scope="session")
def javascript(environment: dict[str, str]) -> Program:
    """Runs a module's text beside the installed client; returns what it printed."""
    try:
        node.install()
    except node.CannotInstall as error:
        pytest.skip(f"the JavaScript client cannot be installed here: {error}")

    def run(text: str, **more: str) -> str:
        command = [str(node.NODE), "--input-type=module", "-"]
        return output_of(command, environment | more, text, node.FOLDER)

    return run


def output_of(
    command: list[str],
    environment: dict[str, str],
    stdin: str = "",
    folder: Path | None = None,
    *,
    status: int = 0,
    with_errors: bool = False,
) -> str:
    """What it printed; a failure that was expected (``status``) is told on standard error."""
    result = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PROGRAM_TIMEOUT_S,
        check=False,
    )
    assert result.returncode == status, f"{result.stdout}\n{result.stderr}"
    return result.stdout + result.stderr if status or with_errors else result.stdout


@pytest.fixture(scope="session")
def spent_key(live: Platform) -> str:
    """Of a project that may send one request a day, and sent it."""
    admin = live.admin()
    project = admin.projects.create(name=f"One request a day, {time.time():.3f}")
    [limit] = [
        each
        for each in admin.projects.rate_limits.list_rate_limits(project.id)
        if each.model == CHAT_MODEL
    ]
    admin.projects.rate_limits.update_rate_limit(
        limit.id, project_id=project.id, max_requests_per_1_day=1
    )
    key = admin.projects.service_accounts.create(project.id, name="Robot").api_key.value
    live.openai(key).completions.create(model=CHAT_MODEL, prompt="Hi", max_tokens=1)
    return str(key)
