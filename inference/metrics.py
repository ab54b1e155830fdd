"""What a gateway counts: OpenTelemetry GenAI names (dots as underscores), and our own."""

from functools import lru_cache
from typing import NamedTuple

from prometheus_client import Counter, Gauge

from inference.loop_metrics import Child, LoopHistogram

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 40, 80, 160, 320)
_TOKENS = tuple(4**power for power in range(14))  # 1 to 67,108,864, as the convention says

REQUEST_DURATION = LoopHistogram(
    "gen_ai_server_request_duration_seconds",
    "From the request's last byte to the answer's",
    ["gen_ai_operation_name", "gen_ai_request_model", "error_type"],
    buckets=_SECONDS,
)
TIME_TO_FIRST_TOKEN = LoopHistogram(
    "gen_ai_server_time_to_first_token_seconds",
    "From the request's last byte to the first token",
    ["gen_ai_request_model"],
    buckets=_SECONDS,
)
TIME_PER_OUTPUT_TOKEN = LoopHistogram(
    "gen_ai_server_time_per_output_token_seconds",
    "Mean time of an output token after the first",
    ["gen_ai_request_model"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1),
)
TOKEN_USAGE = LoopHistogram(
    "gen_ai_client_token_usage",
    "Tokens of a request",
    ["gen_ai_token_type", "gen_ai_request_model"],
    buckets=_TOKENS,
)
OVERHEAD = LoopHistogram(
    "sluice_gateway_overhead_seconds",
    "Our part before a request leaves for a replica: authentication to dispatch",
    buckets=(0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5),
)
IN_FLIGHT = Gauge("sluice_gateway_in_flight_requests", "Requests this gateway holds")
SOCKETS = Gauge("sluice_gateway_open_sockets", "WebSockets open at this gateway")
KEPT = Gauge("sluice_gateway_kept_answers", "Answers under way that outlive their requests")
REFUSED = Counter("sluice_gateway_refused_requests", "Requests refused", ["code"])
CONTINUED = Counter(
    "sluice_gateway_continued_sequences",
    "Sequences continued on another replica",
    ["reason"],
)
QUARANTINED = Counter("sluice_gateway_quarantined_requests", "Requests that engines died of")
BYPASSED = Counter("sluice_gateway_bypass_lines", "Lines opened to replicas, Redis being away")
UNSETTLED = Gauge("sluice_gateway_unsettled_requests", "Settlements waiting for Redis")
CACHE = Counter("sluice_response_cache_lookups", "Response cache look-ups", ["result"])
SEMANTIC_CACHE = Counter(
    "sluice_semantic_cache_lookups", "Semantic cache look-ups: hit, miss, or why none", ["result"]
)
SEMANTIC_CACHE_LOOKUP = LoopHistogram(
    "sluice_semantic_cache_lookup_seconds",
    "A semantic look-up, the question's embedding included",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25),
)
BATCH_SIZE = LoopHistogram(
    "sluice_gateway_batch_size",
    "Sequences of one message",
    ["profile"],
    buckets=(1, 2, 4, 8, 16, 32, 64),
)
BATCH_WAIT = LoopHistogram(
    "sluice_gateway_batch_wait_seconds",
    "How long the oldest sequence of a message waited for it to leave",
    ["profile"],
    buckets=(0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.2, 0.5, 1),
)
SCREENED = Counter("sluice_screened_texts", "Texts with a finding", ["category", "effect"])


class RequestMetrics(NamedTuple):
    """The histograms of one kind of request, with their labels already resolved."""

    duration: Child
    first_token: Child
    per_output_token: Child
    input_tokens: Child
    output_tokens: Child


@lru_cache(maxsize=4096)
def of_request(endpoint: str, model: str, error: str) -> RequestMetrics:
    """Resolving labels takes a lock and a tuple each; a hot path does it once."""
    return RequestMetrics(
        REQUEST_DURATION.labels(endpoint, model, error),
        TIME_TO_FIRST_TOKEN.labels(model),
        TIME_PER_OUTPUT_TOKEN.labels(model),
        TOKEN_USAGE.labels("input", model),
        TOKEN_USAGE.labels("output", model),
    )


class BatchMetrics(NamedTuple):
    size: Child
    wait: Child

    def observe(self, requests: int, waited_s: float) -> None:
        self.size.observe(requests)
        self.wait.observe(waited_s)


@lru_cache(maxsize=16)
def of_batches(profile: str) -> BatchMetrics:
    return BatchMetrics(BATCH_SIZE.labels(profile), BATCH_WAIT.labels(profile))
