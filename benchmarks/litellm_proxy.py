"""LiteLLM's proxy and the upstream that answers at once, each with uvicorn and one worker.

LiteLLM lives in a virtual environment of its own, made on first use. It runs as its
documentation has it for the least work: a static master key, no database, no callbacks.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.server import (
    PYTHON,
    RESULTS,
    BenchmarkError,
    Server,
    answers,
    child,
    python_environment,
    say,
)
from deploy.local import files

FOLDER = Path(__file__).parent
VENV = FOLDER / ".venv-peers"
REQUIREMENTS = FOLDER / "requirements-peers.txt"
STAMP = VENV / ".installed"
INSTALL_TIMEOUT_S = 1200.0
MASTER_KEY = "sk-benchmark-only"
MODEL = "instant"


@contextmanager
def instant_upstream() -> Iterator[Server]:
    port = files.free_port()
    command = (
        PYTHON, "-m", "uvicorn", "benchmarks.instant_upstream:application",
        "--host", "127.0.0.1", "--port", str(port), "--loop", "uvloop", "--http", "httptools",
        "--lifespan", "off", "--no-access-log", "--log-level", "warning",
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with child("upstream", command, python_environment(), answers(url)) as pid:
        yield Server("bare ASGI", url, MODEL, {"upstream": pid})


@contextmanager
def litellm_proxy(upstream: Server) -> Iterator[Server]:
    """The proxy in front of ``upstream``."""
    _install()
    say("starting LiteLLM's proxy")
    port = files.free_port()
    command = (
        str(VENV / "bin" / "litellm"), "--config", str(_config(upstream)),
        "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1",
    )  # fmt: skip
    environment = python_environment(
        PATH=f"{VENV / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        LITELLM_MODE="PRODUCTION",
        LITELLM_LOG="ERROR",
        # Loopback only: no price list, no telemetry.
        LITELLM_LOCAL_MODEL_COST_MAP="True",
        LITELLM_TELEMETRY="False",
    )
    url = f"http://127.0.0.1:{port}"
    ready = answers(f"{url}/v1/models", MASTER_KEY)
    with child("litellm", command, environment, ready) as pid:
        yield Server("litellm", url, MODEL, {"litellm": pid}, MASTER_KEY)


def version() -> str:
    return REQUIREMENTS.read_text().strip()


def _config(upstream: Server) -> Path:
    path = RESULTS / "litellm.yaml"
    path.write_text(
        f"""model_list:
  - model_name: {MODEL}
    litellm_params:
      model: openai/{MODEL}
      api_base: {upstream.url}/v1
      api_key: none
litellm_settings:
  telemetry: false
general_settings:
  master_key: {MASTER_KEY}
"""
    )
    return path


def _install() -> None:
    wanted = REQUIREMENTS.read_text()
    if STAMP.is_file() and STAMP.read_text() == wanted:
        return
    say("installing LiteLLM into its own virtual environment (minutes, once)")
    for command in (
        (sys.executable, "-m", "venv", str(VENV)),
        (str(VENV / "bin" / "pip"), "install", "--disable-pip-version-check", "-q", "-r",
         str(REQUIREMENTS)),
    ):  # fmt: skip
        result = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            check=False,
        )
        if result.returncode:
            raise BenchmarkError(f"LiteLLM could not be installed: {result.stderr[-500:]}")
    STAMP.write_text(wanted)
