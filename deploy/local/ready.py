"""Waiting for the platform: alive, then a real answer through the whole path."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local import logs, programs
from deploy.local.files import LOOPBACK, LocalError
from deploy.local.state import get_lock_holder, read_state

# A process that has begun this often has not had one good run.
MAX_STARTS = 5
SAY_EVERY_S = 5.0
PROBE_TIMEOUT_S = 5
ANSWER_TIMEOUT_S = 60


@dataclass(frozen=True)
class Probe:
    """One request that must answer 200 before the platform counts as ready."""

    name: str
    path: str
    body: dict[str, Any] | None = None
    log: str = "web"  # whose log to show when it never answers


def probes(choices: programs.Choices) -> list[Probe]:
    """In the order in which they come true, each with whose log explains its absence."""
    chat = {
        "model": choices.chat_deployment,
        "messages": [{"role": "user", "content": "Say hello."}],
        "max_tokens": 8,
    }
    embedding = {"model": programs.EMBEDDING_DEPLOYMENT, "input": "hello"}
    found = [
        Probe("web process with its replicas", "/readyz"),
        Probe("first chat completion", "/v1/chat/completions", chat, "chat-1"),
    ]
    if not choices.chat_model:
        found.append(Probe("first embedding", "/v1/embeddings", embedding, "embed-1"))
    return found


@dataclass(frozen=True)
class Outcome:
    is_good: bool
    said: str


def wait_for(
    probe: Probe,
    *,
    port: int,
    key: str,
    state_dir: Path,
    deadline: float,
    cancelled: threading.Event,
    say: Callable[[str], None],
) -> None:
    """Ask until it answers 200. ``LocalError`` at the deadline or when cancelled."""
    began = last_said = time.monotonic()
    while not cancelled.is_set():
        outcome = ask(probe, port, key)
        if outcome.is_good:
            return
        _check_processes(state_dir, probe)
        now = time.monotonic()
        if now > deadline:
            raise LocalError(
                f"No {probe.name} within the time limit; last: {outcome.said}\n"
                + log_tail(state_dir, probe.log)
            )
        if now - last_said >= SAY_EVERY_S:
            say(f"waiting for {probe.name}: {now - began:.0f} s ({outcome.said})")
            last_said = now
        cancelled.wait(0.25)
    raise LocalError("Stopped before the first answer.")


def ask(probe: Probe, port: int, key: str) -> Outcome:
    """One attempt, within its time limit."""
    timeout_s = PROBE_TIMEOUT_S if probe.body is None else ANSWER_TIMEOUT_S
    headers: Mapping[str, str] = {
        "Authorization": f"Bearer {key}",
        "Content-Type": "application/json",
    }
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=timeout_s)
    try:
        if probe.body is None:
            connection.request("GET", probe.path)
        else:
            connection.request("POST", probe.path, json.dumps(probe.body), dict(headers))
        response = connection.getresponse()
        text = response.read(2000).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return Outcome(False, f"{type(error).__name__}: {error}")
    finally:
        connection.close()
    return Outcome(response.status == 200, f"HTTP {response.status} {_message(text)}".strip())


def _message(text: str) -> str:
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return text[:200].replace("\n", " ")


def _check_processes(state_dir: Path, probe: Probe) -> None:
    """Raise as soon as waiting on is pointless."""
    if get_lock_holder(state_dir) is None:
        raise LocalError("The supervisor has ended.\n" + log_tail(state_dir, "supervisor"))
    for process in read_state(state_dir).processes:
        if process.starts >= MAX_STARTS and process.state != "running":
            raise LocalError(
                f"{process.name} keeps failing ({process.note}).\n"
                + log_tail(state_dir, process.name)
            )


def log_tail(state_dir: Path, name: str, count: int = 25) -> str:
    lines = logs.tail(logs.log_path(state_dir, name), count)
    return f"--- the end of {name}'s log ---\n" + "\n".join(lines)
