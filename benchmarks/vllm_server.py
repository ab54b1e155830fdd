"""vLLM's own OpenAI server, on the weights and settings of the platform's chat replica."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.server import PYTHON, Server, answers, child, python_environment, say
from benchmarks.sluice import EngineSettings
from deploy.local import files

MODEL = "chat"


@contextmanager
def vllm_server(settings: EngineSettings) -> Iterator[Server]:
    port = files.free_port()
    say("starting vLLM's own server")
    ready = answers(f"http://127.0.0.1:{port}/health")
    with child("vllm", _command(settings, port), _environment(settings), ready) as pid:
        yield Server("vllm", f"http://127.0.0.1:{port}", MODEL, {"vllm": pid})


def _command(settings: EngineSettings, port: int) -> list[str]:
    options = []
    for name, value in settings.options.items():
        flag = f"--{name.replace('_', '-')}"
        options += [flag] if value is True else [flag, _text(value)]
    if settings.is_eager:
        options.append("--enforce-eager")
    return [
        PYTHON, "-m", "vllm.entrypoints.openai.api_server",
        "--model", str(settings.path),
        "--served-model-name", MODEL,
        "--host", "127.0.0.1",
        "--port", str(port),
        "--dtype", settings.dtype,
        "--max-model-len", str(settings.max_model_len),
        "--max-num-seqs", str(settings.max_num_seqs),
        # In its favour: no line for each request.
        "--disable-uvicorn-access-log",
        *options,
    ]  # fmt: skip


def _environment(settings: EngineSettings) -> dict[str, str]:
    environment = python_environment(VLLM_NO_USAGE_STATS="1", HF_HUB_OFFLINE="1")
    if settings.threads:
        environment |= {
            "VLLM_CPU_KVCACHE_SPACE": str(settings.kv_cache_gib),
            "VLLM_CPU_OMP_THREADS_BIND": settings.threads,
        }
    return environment


def _text(value: object) -> str:
    return json.dumps(value) if isinstance(value, dict | list) else str(value)
