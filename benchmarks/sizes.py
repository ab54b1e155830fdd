"""How much load each benchmark makes: the whole of it, or ``--quick`` to see that it works."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from benchmarks.served import Served


@dataclass(frozen=True)
class Sizes:
    # the chat model of engine, gateway and continuity
    served: Served = field(default_factory=Served)
    # engine: every round starts each server anew
    engine_rounds: int = 3
    # streams at once, and requests of each of them one after the other
    engine_waves: tuple[tuple[int, int], ...] = ((1, 6), (8, 3), (32, 2), (64, 2))
    engine_tokens: int = 64
    # gateway
    gateway_rounds: int = 3
    gateway_has_peer: bool = True
    gateway_latency_s: float = 6.0
    gateway_throughput_s: float = 8.0
    gateway_concurrency: int = 32
    gateway_warm_up_s: float = 3.0
    gateway_streams: int = 64
    gateway_stream_tokens: int = 256
    # continuity
    continuity_streams: int = 16
    continuity_tokens: int = 128
    # memory
    memory_requests: int = 200_000
    memory_warm_up: int = 20_000
    memory_every: int = 10_000
    memory_most_s: float = 900.0
    # admission
    admission_rounds: int = 21
    # routing
    routing_rounds: int = 7
    routing_decisions: int = 2_000
    # parsing
    parsing_rounds: int = 11
    parsing_times: int = 20_000
    # batch
    batch_lines: int = 10_000
    batch_rounds: int = 1
    # overload: the measured seconds of the peak and of the overload, each after a ramp in
    # which places and queues fill
    overload_replicas: int = 8
    overload_ramp_s: float = 45.0
    overload_peak_s: float = 45.0
    overload_s: float = 120.0
    # fairness
    fairness_ramp_s: float = 30.0
    fairness_s: float = 90.0
    # linearity
    linearity_gateways: tuple[int, ...] = (1, 2, 4)
    linearity_replicas: tuple[int, ...] = (1, 8, 64, 200)
    linearity_rounds: int = 3
    linearity_concurrency: int = 64
    # profile
    profile_s: float = 15.0
    profile_concurrency: int = 32
    # sockets
    sockets: int = 10_000
    sockets_s: float = 6.0
    # tenancy
    tenancy_organizations: int = 100_000
    tenancy_keys: int = 1_000_000
    tenancy_big_keys: int = 10_000
    tenancy_big_members: int = 2_000
    tenancy_big_usage: int = 200_000
    tenancy_big_audit: int = 20_000
    tenancy_lookups: int = 3_000
    tenancy_rounds: int = 15


QUICK = replace(
    Sizes(),
    engine_rounds=1,
    engine_waves=((1, 2), (8, 1), (32, 1), (64, 1)),
    gateway_rounds=1,
    gateway_latency_s=2.0,
    gateway_throughput_s=3.0,
    gateway_warm_up_s=1.0,
    gateway_stream_tokens=64,
    memory_requests=20_000,
    memory_warm_up=4_000,
    memory_every=2_000,
    admission_rounds=3,
    routing_rounds=3,
    routing_decisions=1_000,
    parsing_rounds=5,
    parsing_times=5_000,
    batch_lines=2_000,
    overload_replicas=4,
    overload_ramp_s=20.0,
    overload_peak_s=20.0,
    overload_s=40.0,
    fairness_ramp_s=15.0,
    fairness_s=30.0,
    linearity_gateways=(1, 2),
    linearity_replicas=(1, 64),
    linearity_rounds=1,
    profile_s=8.0,
    sockets=1_000,
    sockets_s=2.0,
    tenancy_organizations=2_000,
    tenancy_keys=20_000,
    tenancy_big_keys=2_000,
    tenancy_big_members=500,
    tenancy_big_usage=20_000,
    tenancy_big_audit=2_000,
    tenancy_lookups=500,
    tenancy_rounds=5,
)
