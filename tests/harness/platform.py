"""The whole platform as ``make up`` runs it, in a folder and on a port of its own.

Tests reach it as its users do: over HTTP and WebSocket with the demo keys. Its
databases are read directly only to compare what users were told with what was
recorded.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import httpx
import openai
import psycopg
import redis

from config.env import read_env_file
from deploy.local import postgres
from deploy.local.files import free_port
from deploy.local.state import read_state
from tests.harness.services import CHECKOUT

T = TypeVar("T")
# Variables of the suite's own services and settings, which must not leak into it.
_SUITE = (
    "DATABASE_URL", "DATABASE_WEB_URL", "DATABASE_STAFF_URL", "REDIS_URL", "SLUICE_ENV",
    "SLUICE_STATE_DIR", "LOG_FORMAT", "PYTEST_CURRENT_TEST",
)  # fmt: skip
CHAT_MODEL = "smollm2-135m-instruct"
EMBEDDING_MODEL = "all-minilm-l6-v2"


class Platform:
    """Started by ``start``; ``settings`` are environment variables on top."""

    def __init__(self, **settings: str) -> None:
        self.state_dir = Path(tempfile.mkdtemp(prefix="sluice-platform-"))
        self.state_dir.chmod(0o755)
        self.port = free_port()
        self._open = ExitStack()  # clients handed out, closed with the platform
        environment = {name: value for name, value in os.environ.items() if name not in _SUITE}
        self._environment = {
            **environment,
            "SLUICE_STATE_DIR": str(self.state_dir),
            "MODEL_STORE": os.environ["MODEL_STORE"],
            "PORT": str(self.port),
            **settings,
        }

    def start(self) -> Platform:
        self._run("up", "--detach", timeout_s=420)
        self.demo = read_env_file(self.state_dir / "demo.env")
        self.runtime = read_env_file(self.state_dir / "runtime.env")
        return self

    def stop(self) -> None:
        self._open.close()
        try:
            self._run("down", timeout_s=120)
        finally:
            postgres.remove(self.state_dir)
            shutil.rmtree(self.state_dir, ignore_errors=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def key(self) -> str:
        return self.demo["OPENAI_API_KEY"]

    @property
    def other_key(self) -> str:
        """A key of the second organization."""
        return self.demo["SLUICE_OTHER_API_KEY"]

    def admin(self, key: str | None = None) -> Any:
        """OpenAI's admin client, with the first organization's admin key unless another is given."""
        client = openai.OpenAI(
            base_url=f"{self.url}/v1",
            api_key="unused",
            admin_api_key=key or self.demo["SLUICE_ADMIN_KEY"],
            max_retries=0,
        )
        return self._open.enter_context(client).admin.organization

    def openai(self, key: str | None = None) -> openai.OpenAI:
        client = openai.OpenAI(base_url=f"{self.url}/v1", api_key=key or self.key, max_retries=0)
        return self._open.enter_context(client)

    def http(self, key: str | None = "") -> httpx.Client:
        """A plain client; ``key`` None sends no Authorization header."""
        headers = {} if key is None else {"Authorization": f"Bearer {key or self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)

    def redis(self) -> redis.Redis:
        return self._open.enter_context(redis.Redis.from_url(self.runtime["REDIS_URL"]))

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.runtime["DATABASE_URL"], autocommit=True) as connection:
            cursor = connection.execute(sql, parameters)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def manage(self, *arguments: str, stdin: str | None = None) -> str:
        """Run ``manage.py`` against this platform; returns its output."""
        result = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=CHECKOUT,
            env={**self._environment, **self.runtime},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    def pid(self, name: str) -> int:
        """The process id of web, chat-1, … as the supervisor knows it; 0 while it is down."""
        for process in read_state(self.state_dir).processes:
            if process.name == name:
                return process.pid or 0
        raise LookupError(name)

    def usage_row(self, request_id: str, columns: str) -> tuple[Any, ...]:
        """The recorded usage of a request, once the ledger has it."""
        return wait_for(
            lambda: self.query(
                f"SELECT {columns} FROM billing_usageevent WHERE request_id = %s", request_id
            ),
            20,
        )[0]

    def worker_metric(self, worker: str, name: str) -> float:
        """The sum of a metric's samples on a worker's own /metrics page."""
        port = json.loads((self.state_dir / "ports.json").read_text())[worker]
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text
        samples = [line for line in text.splitlines() if re.match(rf"{name}(\{{| )", line)]
        assert samples, f"{name} is not among the metrics of {worker}"
        return sum(float(line.rpartition(" ")[2]) for line in samples)

    def restart(self, *names: str) -> None:
        """One process after another, all if none is named; returns when the last is ready."""
        self._run("restart", *names, timeout_s=600)

    def log(self, name: str) -> str:
        return (self.state_dir / "logs" / f"{name}.log").read_text()

    def _run(self, command: str, *options: str, timeout_s: float) -> None:
        result = subprocess.run(
            [sys.executable, "-m", "deploy.local", command, *options],
            cwd=CHECKOUT,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if result.returncode:
            raise RuntimeError(f"deploy.local {command} failed:\n{result.stdout}\n{result.stderr}")


def wait_for(probe: Callable[[], T], timeout_s: float, every_s: float = 0.05) -> T:
    """The first truthy answer of ``probe``; fails the test after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while not (answer := probe()):
        assert time.monotonic() < deadline, f"still {answer!r} after {timeout_s} s"
        time.sleep(every_s)
    return answer
