"""The real engine: one vLLM ``AsyncLLM``, on GPUs or on its CPU build."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from django.conf import settings

from inference.engine_protocol import PROBE_EVERY_S, EngineSpec, EngineStats, Step, ignore_step
from inference.store.facts import is_cross_encoder
from inference.wire import Delta, Logprob, Sampling, Submission
from workers.engines import cpu
from workers.engines.grammars import GrammarChecker, TooManyGrammars
from workers.engines.resume import resumed_detokenizer, resumed_sampling
from workers.engines.vllm_chat import ChatParse, ChatParsers, adjusted_sampling
from workers.engines.vllm_params import params_of, score_params, structured_of
from workers.engines.vllm_steps import Steps

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Live:
    """A sequence in the engine."""

    collector: Any
    prompt_tokens: int
    chat: ChatParse | None = None
    has_output: bool = False


@dataclass(slots=True)
class _Prepared:
    """What vLLM is told of a sequence beside its prompt."""

    params: Any
    chat: ChatParse | None = None
    options: dict[str, Any] = field(default_factory=dict)


class _Unacceptable(Exception):
    """The sequence's grammar, or what its tools make one of, in words for the client."""


# vLLM's processes spin for a second after each step, waiting for the next. Where cores are
# what computes, an idle neighbour's probe every 5 s took a fifth of two of them.
PROBE_EVERY_ON_CPU_S = 30.0
GRAMMARS_RETRY_MS = 2_000


class VllmEngine:
    name = "vllm"
    probe_every_s = PROBE_EVERY_S

    def __init__(self) -> None:
        self._llm: Any = None
        self._live: dict[str, _Live] = {}
        self._steps = Steps()
        # Continuations on their way in: their offsets, and who else is to hear their tokens.
        self._resumed: dict[str, tuple[int, ChatParse | None]] = {}
        self._parsers: ChatParsers | None = None
        self._grammars: GrammarChecker | None = None
        self.preparing = 0
        self._stats = EngineStats(0, 0, 0.0)
        self._kv_tokens = 0
        self._background: set[asyncio.Task[None]] = set()
        self._is_ready = self._is_stopping = False

    async def start(
        self,
        spec: EngineSpec,
        emit: Callable[[Delta], None],
        on_death: Callable[[BaseException], None],
        on_step: Callable[[Step], None] = ignore_step,
    ) -> None:
        self._emit, self._on_death, self._on_step = emit, on_death, on_step
        self._is_embedding = spec.kind == "embedding"
        self._is_cross_encoder = self._is_embedding and is_cross_encoder(Path(spec.path))
        self._llm = await asyncio.to_thread(_load, spec, self._make_stat_logger)
        if _is_on_cpu():
            self.probe_every_s = PROBE_EVERY_ON_CPU_S
        await self._warm_up()
        if not self._is_embedding:
            self._parsers = ChatParsers(spec, self._llm.get_tokenizer(), self._llm.model_config)
            self._grammars = _make_grammar_checker(self._llm)
        self._kv_tokens = _kv_tokens(self._llm.vllm_config.cache_config)
        self._stats = EngineStats(0, 0, 0.0, self._kv_tokens)
        self._resume_on_arrival()
        self._is_ready = True

    async def submit(self, submission: Submission) -> None:
        from vllm import exceptions
        from vllm.inputs.engine import tokens_input
        from vllm.v1.engine.exceptions import EngineDeadError

        # Before 0.32 such errors were ValueErrors.
        client_error = getattr(exceptions, "VLLMClientError", ValueError)
        engine_id = submission.engine_id
        try:
            prepared = await self._prepare(submission)
            if submission.offset and submission.sampling is not None:
                self._resumed[engine_id] = submission.offset, prepared.chat
            self._steps.wake(time.monotonic())
            collector = await self._llm.add_request(
                engine_id,
                tokens_input(submission.prompt_ids, cache_salt=submission.cache_salt or None),
                prepared.params,
                **prepared.options,
            )
        except EngineDeadError as error:
            self._on_death(error)
            return
        except TooManyGrammars:
            self._refuse(engine_id, "overloaded", retry_after_ms=GRAMMARS_RETRY_MS)
            return
        except _Unacceptable as error:
            self._refuse(engine_id, "invalid_parameters", str(error))
            return
        except (ValueError, TypeError, NotImplementedError, client_error) as error:
            # vLLM refuses odd parameters with these; the engine is untouched.
            log.info("engine.refused", extra={"sequence": engine_id, "error": str(error)})
            self._refuse(engine_id, "invalid_parameters")
            return
        finally:
            self._resumed.pop(engine_id, None)
        self._live[engine_id] = _Live(collector, len(submission.prompt_ids), prepared.chat)
        self._follow(engine_id, collector)

    async def _prepare(self, submission: Submission) -> _Prepared:
        if self._is_cross_encoder:
            return _Prepared(score_params(submission.pair_at))
        sampling = resumed_sampling(submission)
        if sampling is None or (sampling.parsing is None and sampling.structured is None):
            return _Prepared(params_of(sampling))
        chat, options, structured = None, {}, structured_of(sampling)
        if sampling.parsing is not None:
            assert self._parsers is not None
            if structured is not None:  # parsers compile it too
                await self._check_grammar(structured)
            chat = self._parsers.open(submission, sampling, sampling.parsing)
            structured, options = chat.structured, chat.reasoning_options
            sampling = adjusted_sampling(sampling, chat)
        if structured is not None:
            if submission.offset:
                raise _Unacceptable("This answer cannot go on where its first engine stopped.")
            await self._check_grammar(structured)
        return _Prepared(params_of(sampling, structured), chat, options)

    async def _check_grammar(self, structured: Any) -> None:
        if self._grammars is None:
            return
        # While it is compiled the engine owes nothing for it.
        self.preparing += 1
        try:
            problem = await self._grammars.problem(structured)
        finally:
            self.preparing -= 1
        if problem:
            raise _Unacceptable(f"The output cannot be constrained like this: {problem}.")

    def _refuse(
        self, engine_id: str, error: str, detail: str = "", retry_after_ms: int = 0
    ) -> None:
        delta = _last(engine_id, "error", error)
        delta.detail, delta.retry_after_ms = detail, retry_after_ms
        self._emit(delta)
        self._rest_if_idle()

    def abort(self, engine_ids: list[str]) -> None:
        known = [engine_id for engine_id in engine_ids if self._live.pop(engine_id, None)]
        if known:
            self._stop_in_engine(known)
        for engine_id in engine_ids:
            self._emit(_last(engine_id, "abort", ""))

    def _stop_in_engine(self, engine_ids: list[str]) -> None:
        task = asyncio.get_running_loop().create_task(self._llm.abort(engine_ids))
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        self._rest_if_idle()

    def _give_up(self, engine_id: str, error: str) -> None:
        """End a sequence whose output cannot be read."""
        del self._live[engine_id]
        self._stop_in_engine([engine_id])
        self._emit(_last(engine_id, "error", error))

    def stats(self) -> EngineStats:
        return self._stats

    async def stop(self) -> None:
        self._is_stopping = True
        if self._grammars is not None:
            self._grammars.stop()
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
                if engine_id in self._live:
                    self._give_up(engine_id, type(error).__name__)

        collector.put, early = put, collector.output
        if early is not None:
            put(early)
            self._flush(self._steps.end_late())

    def _output(self, engine_id: str, output: Any) -> None:
        if isinstance(output, BaseException):
            self._failed(engine_id, output)
            return
        live = self._live.get(engine_id)
        if live is None:
            return
        cached_tokens = getattr(output, "num_cached_tokens", 0) or 0
        computed = None if live.has_output else max(1, live.prompt_tokens - cached_tokens)
        live.has_output = True
        delta = (
            self._vector(engine_id, output) if self._is_embedding else _tokens(engine_id, output)
        )
        if live.chat is not None:
            live.chat.apply(delta)
        if output.finished:
            del self._live[engine_id]
        self._steps.add(delta, computed)

    def _vector(self, engine_id: str, output: Any) -> Delta:
        vector = output.outputs.data.float().numpy().astype("<f4").tobytes()
        return Delta(engine_id, 0, 0, [], "", finish_reason="stop", embedding=vector)

    def _stepped(self, scheduler_stats: Any, iteration_stats: Any) -> None:
        """vLLM's figures of a step whose outputs it just handed over."""
        if scheduler_stats is None or not self._is_ready:
            return
        running, waiting = scheduler_stats.num_running_reqs, scheduler_stats.num_waiting_reqs
        self._stats = EngineStats(running, waiting, scheduler_stats.kv_cache_usage, self._kv_tokens)
        details = getattr(scheduler_stats, "iteration_details", None)
        step = self._steps.end(
            time.monotonic(),
            None if details is None else details.num_ctx_tokens,
            0 if iteration_stats is None else iteration_stats.num_preempted_reqs,
            has_more=bool(running or waiting or self._live),
        )
        self._flush(step)

    def _flush(self, step: Step) -> None:
        self._on_step(step)
        for delta in self._steps.take_deltas():
            self._emit(delta)

    def _rest_if_idle(self) -> None:
        if not self._live:
            self._steps.rest()

    def _resume_on_arrival(self) -> None:
        """Have continuations detokenized from where their text stands.

        vLLM makes a sequence's state in one place, before its engine hears of the
        sequence: only there is it certain that no output came first.
        """
        processor = self._llm.output_processor
        register = processor.add_request

        def add_request(request: Any, *args: Any, **kwargs: Any) -> None:
            register(request, *args, **kwargs)
            if resumed := self._resumed.get(request.external_req_id):
                offset, chat = resumed
                state = processor.request_states[request.request_id]
                state.detokenizer = resumed_detokenizer(
                    processor.tokenizer, request, offset, chat.replay if chat else None
                )

        processor.add_request = add_request

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
            params = score_params(0) if self._is_cross_encoder else params_of(None)
            async for _ in self._llm.encode(prompt, params, "warm-up"):
                pass
        else:
            async for _ in self._llm.generate(prompt, params_of(sampling), "warm-up"):
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
                try:
                    engine._stepped(scheduler_stats, iteration_stats)
                except Exception:  # a fault here must not end vLLM's output loop
                    log.exception("engine.step_failed")

            def log_engine_initialized(self) -> None:
                pass

        return HeartbeatStats


def _is_on_cpu() -> bool:
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())


def _load(spec: EngineSpec, make_stat_logger: Callable[[], type]) -> Any:
    """Build the AsyncLLM; blocks for as long as weights take to load."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(settings.KV_CACHE_GIB))
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", cpu.threads_for(settings.ENGINE_THREADS))
    # No phone home, no hub: weights are in the model store.
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("VLLM_CONFIGURE_LOGGING", "0")
    # Not forked from this process, which has threads: what they hold stays held in a child.
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    # Or it writes a line a step.
    logging.getLogger("vllm.v1.metrics.loggers").setLevel(logging.WARNING)
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
    if _STEP_DETAILS in {field.name for field in fields(AsyncEngineArgs)}:
        options[_STEP_DETAILS] = True
    if current_platform.is_cpu():
        # Compiling takes minutes and gains little for models that fit a CPU. The sampler's
        # few kernels too: the first request for logprobs would wait 15 s for gcc.
        os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
        options["enforce_eager"] = True
        options["dtype"] = cpu.dtype_for(spec.dtype)
    if spec.kind == "embedding":
        options["runner"] = "pooling"
    else:
        # vLLM's "auto" lets the first request that needs another backend decide for all that
        # follow; what this one cannot hold to is refused instead.
        options["structured_outputs_config"] = {"backend": "xgrammar"}
        options["reasoning_parser"] = spec.reasoning_parser
    options.update(spec.options)
    return AsyncLLM.from_engine_args(
        AsyncEngineArgs(**options),
        stat_loggers=[make_stat_logger()],
    )


def _make_grammar_checker(llm: Any) -> GrammarChecker | None:
    """None for another backend than ours, which an operator chose and answers for."""
    import xgrammar

    config = llm.vllm_config.structured_outputs_config
    if config.backend != "xgrammar":
        return None
    tokenizer = xgrammar.TokenizerInfo.from_huggingface(
        llm.get_tokenizer(), vocab_size=llm.model_config.get_vocab_size()
    )
    checker = GrammarChecker(tokenizer.serialize_json(), not config.disable_any_whitespace)
    checker.start()
    return checker


# How many prompt tokens each step computed; without it, a prompt's count when it is done.
_STEP_DETAILS = "enable_logging_iteration_details"


def _kv_tokens(cache_config: Any) -> int:
    """How many tokens the KV cache holds; 0 for an engine that has none."""
    tokens = getattr(cache_config, "kv_cache_size_tokens", None)
    if tokens is None:
        tokens = (cache_config.num_gpu_blocks or 0) * (cache_config.block_size or 0)
    return int(tokens)


def _tokens(engine_id: str, output: Any) -> Delta:
    part = output.outputs[0]
    return Delta(
        engine_id,
        0,
        0,
        list(part.token_ids),
        part.text,
        finish_reason=part.finish_reason or "",
        stop_reason=part.stop_reason,
        cached_tokens=output.num_cached_tokens or 0,
        logprobs=_logprobs(part.token_ids, part.logprobs) if part.logprobs else None,
        prompt_logprobs=_prompt_logprobs(output),
    )


def _prompt_logprobs(output: Any) -> list[Logprob] | None:
    """vLLM gives them with every output of a sequence that asked, and None for its first token."""
    found = output.prompt_logprobs
    if not found:
        return None
    return _logprobs(output.prompt_token_ids[1:], found[1:])


def _logprobs(token_ids: Any, ranks: Any) -> list[Logprob]:
    found = []
    for token_id, ranked in zip(token_ids, ranks, strict=False):
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
