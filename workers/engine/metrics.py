"""What an engine worker counts, beside vLLM's own ``vllm:*`` metrics in the same registry."""

from prometheus_client import Counter, Gauge

GENERATED_TOKENS = Counter("sluice_replica_generated_tokens", "Output tokens of this replica")
FINISHED = Counter("sluice_replica_finished_sequences", "Sequences that ended", ["reason"])
ABORTED = Counter("sluice_replica_aborted_sequences", "Sequences aborted in the engine")
BATCHES = Counter("sluice_replica_batches", "Celery messages taken")
BATCHED = Counter("sluice_replica_batched_sequences", "Sequences in those messages")
RUNNING = Gauge("sluice_replica_running_sequences", "Sequences in the engine")
WAITING = Gauge("sluice_replica_waiting_sequences", "Sequences in the fair queue")
KV_CACHE = Gauge("sluice_replica_kv_cache_usage", "Share of the KV cache in use, 0 to 1")
