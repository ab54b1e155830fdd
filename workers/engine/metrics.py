"""What an engine worker counts, beside vLLM's own ``vllm:*`` metrics in the same registry."""

from prometheus_client import Counter, Gauge, Histogram

_WAITS_S = (0.001, 0.005, 0.02, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 40, 80, 160, 320, 640)

GENERATED_TOKENS = Counter("sluice_replica_generated_tokens", "Output tokens of this replica")
FINISHED = Counter("sluice_replica_finished_sequences", "Sequences that ended", ["reason"])
REFUSED = Counter("sluice_replica_refused_sequences", "Sequences not (further) run", ["reason"])
ABORTED = Counter("sluice_replica_aborted_sequences", "Sequences aborted in the engine")
BATCHES = Counter("sluice_replica_batches", "Celery messages taken")
BATCHED = Counter("sluice_replica_batched_sequences", "Sequences in those messages")
RUNNING = Gauge("sluice_replica_running_sequences", "Sequences in the engine")
WAITING = Gauge("sluice_replica_waiting_sequences", "Sequences in the fair queue")
QUEUE_WAIT = Histogram(
    "sluice_replica_queue_wait_seconds", "In the fair queue, by class", ["tier"], buckets=_WAITS_S
)
KV_CACHE = Gauge("sluice_replica_kv_cache_usage", "Share of the KV cache in use, 0 to 1")
PREEMPTED = Counter(
    "sluice_replica_preempted_sequences", "Sequences put out of the KV cache, to be computed again"
)
ENGINE_SECONDS = Counter("sluice_replica_engine_seconds", "Wall time of the engine's steps")
UNATTRIBUTED_SECONDS = Gauge(
    "sluice_replica_unattributed_seconds", "Part of it that no sequence was charged, so far"
)
PROBES = Counter("sluice_replica_probes", "One-token generations to prove an idle engine")
UNPROVEN = Counter("sluice_replica_unproven", "Times that the engine made nothing for too long")
PROVEN = Gauge("sluice_replica_is_proven", "1 while the engine makes what it should, else 0")
PROVEN.set(1)
# The replica's measured profile, for ``manage.py measure_profile``.
PREFILL_SPEED = Gauge("sluice_replica_prefill_tokens_per_second", "Measured over busy minutes")
DECODE_BASE = Gauge("sluice_replica_decode_base_seconds", "A decode step's, of no sequence")
DECODE_SLOPE = Gauge("sluice_replica_decode_per_running_seconds", "And of each sequence in it")
