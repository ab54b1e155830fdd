"""Whether a request costs the same with more gateways and more replicas.

CPU a request of everything but the engines: gateways, control worker, beat, PostgreSQL and
Valkey, for 1, 2 and 4 gateways before 1 to 200 simulated replicas. All but one replica of a
cell live in one process (``benchmarks.fleet_host``); engines' CPU is not counted, hosted or
not. What grows with the fleet whether anybody asks or not, its heartbeats, is measured for
itself and shown as idle; it is in the cost of a request too, as it is in an installation's.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.arithmetic import median
from benchmarks.fleet import more_replicas
from benchmarks.gateway import get_cost, get_idle, make_asks, put_load
from benchmarks.server import Server, say
from benchmarks.sizes import Sizes
from benchmarks.sluice import platform

# First processes of trees that are engines; what else is up counts.
ENGINES = ("chat-", "embed-")


def measure(sizes: Sizes) -> dict[str, object]:
    rows = []
    for gateways in sizes.linearity_gateways:
        with platform("simulated", WEB_PROCESSES=str(gateways)) as server:
            for replicas in sizes.linearity_replicas:
                with more_replicas(replicas - 1, "instant"):
                    rows.append(_cell(without_engines(server), gateways, replicas, sizes))
                    say(str(rows[-1]))
    costs = [row["cpu_us"] for row in rows]
    net = [row["net_cpu_us"] for row in rows]
    return {
        "rows": rows,
        "concurrency": sizes.linearity_concurrency,
        "rounds": sizes.linearity_rounds,
        "spread": max(costs) / min(costs) - 1,
        "net_spread": max(net) / min(net) - 1,
    }


def without_engines(server: Server) -> Server:
    roots = {name: pid for name, pid in server.roots.items() if not name.startswith(ENGINES)}
    return replace(server, roots=roots)


def _cell(server: Server, gateways: int, replicas: int, sizes: Sizes) -> dict[str, float]:
    at_once = sizes.linearity_concurrency
    put_load(server, make_asks(server), at_once, sizes.gateway_warm_up_s)
    idle = get_idle(server)
    costs = [
        get_cost(server, make_asks(server), at_once, sizes.gateway_throughput_s, idle)
        for _ in range(sizes.linearity_rounds)
    ]
    idle_us_per_s = sum(idle.values()) * 1e6
    return {
        "gateways": gateways,
        "replicas": replicas,
        "cpu_us": median(cost.total_us for cost in costs),
        # Of the load alone: what the same seconds cost with nothing to do is taken off.
        "net_cpu_us": median(
            cost.total_us - idle_us_per_s / cost.summary.requests_per_s for cost in costs
        ),
        "idle_us_per_s": idle_us_per_s,
        "requests_per_s": median(cost.summary.requests_per_s for cost in costs),
        "p50_ms": median(cost.summary.p50_ms for cost in costs),
    }
