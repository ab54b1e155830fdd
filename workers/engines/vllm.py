"""The real engine: one vLLM ``AsyncLLM``, on GPUs or on its CPU build."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Any

from django.conf import settings

from inference.engine_protocol import EngineSpec, EngineStats
from inference.wire import Delta, Logprob, Sampling, Submission
from workers.engines import cpu

log = logging.getLogger(__name__)


class VllmEngine:
    name = "vllm"

    def __init__(self) -> None:
        self._llm: Any = None
        self._live: dict[str, Any] = {}
        self._stats = EngineStats(0, 0, 0.0)
        self._background: set[asyncio.Task[None]] = set()
        self._is_stopping = False

    async def start(
        self,
        spec: EngineSpec,
        emit: Callable[[Delta], None],
        on_death: Callable[[BaseException], None],
    ) -> None:
        self._emit, self._on_death = emit, on_death
        self._is_embedding = spec.kind == "embedding"
        self._llm = await asyncio.to_thread(_load, spec, self._make_stat_logger)
        await self._warm_up()

    async def submit(self, submission: Submission) -> None:
        from vllm.inputs.engine import tokens_input
        from vllm.v1.engine.exceptions import EngineDeadError

        engine_id = submission.engine_id
        try:
            collector = await self._llm.add_request(
                engine_id,
                tokens_input(submission.prompt_ids, cache_salt=submission.cache_salt or None),
                _params(submission.sampling),
            )
        except EngineDeadError as error:
            self._on_death(error)
            return
        except (ValueError, TypeError, NotImplementedError) as error:
            # vLLM refuses odd parameters with ValueError; the engine is untouched.
            log.info("engine.refused", extra={"sequence": engine_id, "error": str(error)})
            self._emit(_last(engine_id, "error", "invalid_parameters"))
            return
        self._live[engine_id] = collector
        self._follow(engine_id, collector)

    def abort(self, engine_ids: list[str]) -> None:
        known = [engine_id for engine_id in engine_ids if self._live.pop(engine_id, None)]
        if known:
            task = asyncio.get_running_loop().create_task(self._llm.abort(known))
            self._background.add(task)
            task.add_done_callback(self._background.discard)
        for engine_id in engine_ids:
            self._emit(_last(engine_id, "abort", ""))

    def stats(self) -> EngineStats:
        return self._stats

    async def stop(self) -> None:
        self._is_stopping = True
        if self._llm is not None:
            # Before the loop ends: its tasks and the engine's processes go with it.
            await asyncio.to_thread(self._llm.shutdown)

    def _follow(self, engine_id: str, collector: Any) -> None:
        """Have outputs call us as vLLM makes them, instead of a task for each sequence.

        ``RequestOutputCollector.put`` is where vLLM's output loop leaves each
        step's output. Taking its place on this one object saves, per token, an
        event, a task switch and a merge; what came before is delivered first.
        """

        def put(output: Any) -> None:
            try:
                self._output(engine_id, output)
            except Exception as error:  # a fault here must not end vLLM's output loop
                log.exception("engine.output_failed", extra={"sequence": engine_id})
                if self._live.pop(engine_id, None) is not None:
                    self._emit(_last(engine_id, "error", type(error).__name__))

        collector.put, early = put, collector.output
        if early is not None:
            put(early)

    def _output(self, engine_id: str, output: Any) -> None:
        if isinstance(output, BaseException):
            self._failed(engine_id, output)
            return
        if engine_id not in self._live:
            return
        if output.finished:
            del self._live[engine_id]
        if self._is_embedding:
            vector = output.outputs.data.float().numpy().astype("<f4").tobytes()
            self._emit(Delta(engine_id, 0, 0, [], "", finish_reason="stop", embedding=vector))
            return
        part = output.outputs[0]
        self._emit(
            Delta(
                engine_id,
                0,
                0,
                list(part.token_ids),
                part.text,
                finish_reason=part.finish_reason or "",
                stop_reason=part.stop_reason,
                cached_tokens=output.num_cached_tokens or 0,
                logprobs=_logprobs(part) if part.logprobs else None,
            )
        )

    def _failed(self, engine_id: str, error: BaseException) -> None:
        from vllm.v1.engine.exceptions import EngineDeadError

        if isinstance(error, EngineDeadError):
            if not self._is_stopping:
                self._on_death(error)
            return
        log.warning("engine.request_failed", extra={"sequence": engine_id, "error": repr(error)})
        if self._live.pop(engine_id, None) is not None:
            self._emit(_last(engine_id, "error", "engine_error"))

    async def _warm_up(self) -> None:
        """One token (or vector) through the whole engine: proof that it works."""
        from vllm.inputs.engine import tokens_input

        sampling = None if self._is_embedding else Sampling(max_tokens=1, temperature=0.0)
        prompt = tokens_input([1, 2, 3])
        if self._is_embedding:
            async for _ in self._llm.encode(prompt, _params(None), "warm-up"):
                pass
        else:
            async for _ in self._llm.generate(prompt, _params(sampling), "warm-up"):
                pass

    def _make_stat_logger(self) -> type:
        """A vLLM stat logger class that keeps the newest figures for heartbeats."""
        from vllm.v1.metrics.loggers import StatLoggerBase

        engine = self

        class HeartbeatStats(StatLoggerBase):
            def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
                pass

            def record(
                self, scheduler_stats: Any, iteration_stats: Any, *_: Any, **__: Any
            ) -> None:
                if scheduler_stats is not None:
                    engine._stats = EngineStats(
                        scheduler_stats.num_running_reqs,
                        scheduler_stats.num_waiting_reqs,
                        scheduler_stats.kv_cache_usage,
                    )

            def log_engine_initialized(self) -> None:
                pass

        return HeartbeatStats


def _load(spec: EngineSpec, make_stat_logger: Callable[[], type]) -> Any:
    """Build the AsyncLLM; blocks for as long as weights take to load."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(settings.KV_CACHE_GIB))
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", cpu.threads_for(settings.ENGINE_THREADS))
    # No phone home, no hub: weights are in the model store.
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("VLLM_CONFIGURE_LOGGING", "0")
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.platforms import current_platform
    from vllm.v1.engine.async_llm import AsyncLLM

    options: dict[str, Any] = {
        "model": spec.path,
        "served_model_name": spec.model,
        "dtype": spec.dtype,
        "max_model_len": spec.max_context_tokens,
        "max_num_seqs": spec.max_running_requests,
        "disable_log_stats": False,
        "enable_log_requests": False,
    }
    if current_platform.is_cpu():
        # Compiling takes minutes and gains little for models that fit a CPU.
        options["enforce_eager"] = True
        options["dtype"] = cpu.dtype_for(spec.dtype)
    if spec.kind == "embedding":
        options["runner"] = "pooling"
    options.update(spec.options)
    return AsyncLLM.from_engine_args(
        AsyncEngineArgs(**options),
        stat_loggers=[make_stat_logger()],
    )


def _params(sampling: Sampling | None) -> Any:
    from vllm import PoolingParams, SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    if sampling is None:
        return PoolingParams(task="embed")
    fields = {name: getattr(sampling, name) for name in _PLAIN_FIELDS}
    if sampling.structured is not None:
        fields["structured_outputs"] = StructuredOutputsParams(**sampling.structured)
    return SamplingParams(**fields, output_kind=RequestOutputKind.DELTA)


_PLAIN_FIELDS = tuple(name for name in Sampling.__struct_fields__ if name != "structured")


def _logprobs(part: Any) -> list[Logprob]:
    found = []
    for token_id, ranked in zip(part.token_ids, part.logprobs, strict=False):
        chosen = ranked[token_id]
        top = sorted(ranked.items(), key=lambda item: item[1].rank)
        found.append(
            Logprob(
                token_id,
                chosen.decoded_token or "",
                chosen.logprob,
                [(other, value.decoded_token or "", value.logprob) for other, value in top],
            )
        )
    return found


def _last(engine_id: str, finish_reason: str, error: str) -> Delta:
    return Delta(engine_id, 0, 0, [], "", finish_reason=finish_reason, error=error)
