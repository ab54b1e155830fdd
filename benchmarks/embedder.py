"""The platform's embedding model in a process of ours: the engine, without web and database."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import TracebackType

from benchmarks.prompts import BASE_DIR
from benchmarks.server import BenchmarkError
from inference.engine_protocol import EngineSpec
from inference.prompts import PromptRenderer
from inference.wire import Delta, Submission
from workers.engines.vllm import VllmEngine

MODEL = "all-minilm-l6-v2"
LONGEST_TOKENS = 256


def stored_model() -> Path:
    store = Path(os.environ.get("MODEL_STORE") or BASE_DIR / ".sluice" / "models")
    versions = sorted((store / MODEL).glob("*/sluice.json"))
    if not versions:
        raise BenchmarkError(f"{MODEL} is not in the model store; bring the platform up once.")
    return versions[-1].parent


class Embedder:
    """``async with Embedder() as embedder``; texts are cut at the model's context."""

    async def __aenter__(self) -> Embedder:
        folder = stored_model()
        self._renderer = PromptRenderer.load(folder)
        self._waiting: dict[str, asyncio.Future[bytes]] = {}
        self._engine = VllmEngine()
        spec = EngineSpec(MODEL, "embedding", str(folder), "auto", LONGEST_TOKENS, 64)
        await self._engine.start(spec, self._heard, self._died)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._engine.stop()

    async def embed(self, texts: list[str]) -> list[bytes]:
        return list(await asyncio.gather(*(self._one(i, text) for i, text in enumerate(texts))))

    async def _one(self, index: int, text: str) -> bytes:
        ids = self._renderer.tokenize(text, True, scope=0)[:LONGEST_TOKENS]
        submission = Submission(
            request_id=f"q{index}", attempt=1, gateway="", incarnation="", organization=1,
            weight=1, prompt_ids=ids, sampling=None, cache_salt="", submitted_at=0.0,
        )  # fmt: skip
        future = asyncio.get_running_loop().create_future()
        self._waiting[submission.engine_id] = future
        await self._engine.submit(submission)
        return await future

    def _heard(self, delta: Delta) -> None:
        future = self._waiting.pop(delta.request_id, None)
        if future is not None and delta.finish_reason and not future.done():
            future.set_result(delta.embedding)

    def _died(self, error: BaseException) -> None:
        for future in self._waiting.values():
            future.set_exception(BenchmarkError(f"The engine died: {error!r}"))
