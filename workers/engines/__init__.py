"""The engines: sibling files, each with one class of ``inference.engine_protocol.Engine``."""

from __future__ import annotations

from importlib import import_module

from inference.engine_protocol import Engine

# Imported when chosen: vLLM takes seconds to import and is absent from slim images.
ENGINES = {
    "vllm": ("workers.engines.vllm", "VllmEngine"),
    "simulated": ("workers.engines.simulated", "SimulatedEngine"),
}


def make_engine(name: str) -> Engine:
    module, class_name = ENGINES[name]
    engine: Engine = getattr(import_module(module), class_name)()
    return engine
