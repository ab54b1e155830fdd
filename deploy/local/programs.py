"""The platform's processes on one machine: what each runs, and in which order they stop."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local import files
from deploy.local.child import ProcessSpec
from deploy.local.files import LOOPBACK, LocalError

CHAT_DEPLOYMENT = "smollm2-135m-instruct"
EMBEDDING_DEPLOYMENT = "all-minilm-l6-v2"
WEB_GRACE_S = 30
# The roles whose logins a process has. The tables' owner is none of them: it is for
# `manage.py`, which migrates and makes the demo.
WEB_LOGINS = ("DATABASE_WEB_URL", "DATABASE_STAFF_URL")
WORKER_LOGINS = ("DATABASE_STAFF_URL",)
_LOGINS = {"DATABASE_URL", *WEB_LOGINS, *WORKER_LOGINS}


@dataclass(frozen=True)
class Choices:
    """What the operator chose in the environment."""

    port: int
    chat_replicas: int
    web_processes: int = 1
    # Weights to serve in SmolLM2's place, alone: no embedding model then.
    chat_model: str = ""
    chat_dtype: str = ""
    chat_options: str = ""  # JSON, the version's engine options
    chat_running: int = 64

    @property
    def chat_deployment(self) -> str:
        if not self.chat_model:
            return CHAT_DEPLOYMENT
        last = self.chat_model.rstrip("/").rsplit("/", 1)[-1].split("@")[0]
        return re.sub(r"[^a-z0-9_-]+", "-", last.removesuffix(".gguf").lower()).strip("-")

    @property
    def pull(self) -> tuple[str, ...]:
        """Arguments of ``manage.py`` that bring what is served into the store."""
        if not self.chat_model:
            return ("pull_model", "--default")
        command = ["pull_model", self.chat_model, "--model", self.chat_deployment, "--kind", "chat"]
        if self.chat_dtype:
            command += ["--dtype", self.chat_dtype]
        if self.chat_options:
            command += ["--engine-options", self.chat_options]
        return tuple(command)

    @property
    def demo(self) -> tuple[str, ...]:
        """Arguments of ``manage.py`` that make the demo, and what is served a deployment."""
        if not self.chat_model:
            return ("create_demo",)
        running = str(self.chat_running)
        return ("create_demo", "--model", self.chat_deployment, "--running", running)

    @property
    def address(self) -> str:
        """Where this machine reaches the web process, whatever its public address."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def url(self) -> str:
        return os.environ.get("SLUICE_URL") or self.address


def read_choices() -> Choices:
    return Choices(
        port=_number("PORT", 8000, 1, 65_535),
        chat_replicas=_number("CHAT_REPLICAS", 1, 1, 64),
        web_processes=_number("WEB_PROCESSES", 1, 1, 16),
        chat_model=os.environ.get("CHAT_MODEL", ""),
        chat_dtype=os.environ.get("CHAT_DTYPE", ""),
        chat_options=_json("CHAT_OPTIONS"),
        chat_running=_number("CHAT_RUNNING", 64, 1, 4_096),
    )


def _json(name: str) -> str:
    """The text of a JSON object; empty when it is not set."""
    raw = os.environ.get(name, "")
    try:
        is_object = not raw or isinstance(json.loads(raw), dict)
    except ValueError:
        is_object = False
    if not is_object:
        raise LocalError(f"{name}={raw} is not a JSON object.")
    return raw


def _number(name: str, default: int, low: int, high: int) -> int:
    raw = os.environ.get(name) or str(default)
    if not raw.isdecimal() or not low <= int(raw) <= high:
        raise LocalError(f"{name}={raw} is not a number from {low} to {high}.")
    return int(raw)


def plan_processes(
    state_dir: Path, choices: Choices, environment: Mapping[str, str]
) -> list[list[ProcessSpec]]:
    """Groups in the order in which they stop: who takes requests in goes first."""
    replicas = [
        (f"chat-{number}", choices.chat_deployment)
        for number in range(1, choices.chat_replicas + 1)
    ]
    if not choices.chat_model:
        replicas.append(("embed-1", EMBEDDING_DEPLOYMENT))
    worker = with_logins(environment, WORKER_LOGINS)
    web = with_logins(environment, WEB_LOGINS)
    gateways = ["web", *(f"web-{number}" for number in range(2, choices.web_processes + 1))]
    return [
        [*(_web(state_dir, name, choices, web) for name in gateways), _batch(state_dir, worker)],
        [_replica(state_dir, name, deployment, worker) for name, deployment in replicas],
        [ProcessSpec("beat", (*_CELERY, "beat", "--pidfile="), worker, 10)],
        [_control(state_dir, worker)],
    ]


def with_logins(environment: Mapping[str, str], needed: Sequence[str]) -> dict[str, str]:
    """``environment`` with no other login than those ``needed``.

    Where an operator gave the owner's login alone, it stays: the process takes the
    other roles on by SET ROLE, which holds mistakes but not SQL that means harm.
    """
    if not all(environment.get(name) for name in needed):
        return dict(environment)
    unneeded = _LOGINS.difference(needed)
    return {
        name: value
        for name, value in environment.items()
        if name.removesuffix("_FILE") not in unneeded
    }


_CELERY = (sys.executable, "-m", "celery", "-A", "config.celery")
# Workers neither talk to each other, nor wait a second at start for answers, nor tell
# monitors that do not exist every two seconds that they are there.
_QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat")


def _web(
    state_dir: Path, name: str, choices: Choices, environment: Mapping[str, str]
) -> ProcessSpec:
    """They share the public address; at the other each says how it is, and its metrics."""
    command = (
        sys.executable, "-m", "config.web", "--host", LOOPBACK, "--port", str(choices.port)
    )  # fmt: skip
    own = files.remembered_port(state_dir, name)
    listens_on = ((LOOPBACK, choices.port), (LOOPBACK, own))
    return ProcessSpec(name, command, environment, WEB_GRACE_S + 5, listens_on)


def _batch(state_dir: Path, environment: Mapping[str, str]) -> ProcessSpec:
    """A gateway as well, which nobody calls: it runs the lines of batches."""
    metrics = {"WORKER_METRICS_PORT": str(files.remembered_port(state_dir, "batch"))}
    command = (sys.executable, "-m", "config.batch")
    return ProcessSpec("batch", command, {**environment, **metrics}, stop_timeout_s=45)


def _replica(
    state_dir: Path, name: str, deployment: str, environment: Mapping[str, str]
) -> ProcessSpec:
    command = (
        *_CELERY,
        "worker",
        "-P",
        "solo",
        "-Q",
        f"replica.{name}",
        "-n",
        f"{name}@%h",
        *_QUIET,
    )
    return ProcessSpec(
        name,
        command,
        {
            **environment,
            "REPLICA_ID": name,
            "REPLICA_DEPLOYMENT": deployment,
            "WORKER_METRICS_PORT": str(files.remembered_port(state_dir, name)),
        },
        stop_timeout_s=40,
    )


def _control(state_dir: Path, environment: Mapping[str, str]) -> ProcessSpec:
    command = (
        *_CELERY, "worker", "-P", "threads", "-c", "4", "-Q", "control", "-n", "control@%h", *_QUIET
    )  # fmt: skip
    metrics = {"WORKER_METRICS_PORT": str(files.remembered_port(state_dir, "control"))}
    return ProcessSpec("control", command, {**environment, **metrics}, stop_timeout_s=30)
