"""Results as JSON under ``benchmarks/results/``, and as tables in ``docs/performance.md``.

The page is prose with a place for each benchmark between two markers; only what stands
between them is written.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks import machine
from benchmarks.prompts import BASE_DIR
from benchmarks.server import RESULTS, BenchmarkError, say

PAGE = BASE_DIR / "docs" / "performance.md"
Result = Mapping[str, Any]


def keep(name: str, command: str, is_quick: bool, result: Mapping[str, object]) -> None:
    """Write the result's file; ``command`` is what made it."""
    RESULTS.mkdir(exist_ok=True)
    content = {
        "command": command,
        "is_quick": is_quick,
        "machine": machine.describe(),
        "result": result,
    }
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")


def render() -> list[str]:
    """Write every result that there is into the page; the names of those written."""
    page, written = PAGE.read_text(), []
    for name, table in TABLES.items():
        path = RESULTS / f"{name}.json"
        if path.is_file():
            content = json.loads(path.read_text())
            try:
                text = f"{table(content['result'])}\n\n{_origin(content)}"
            except KeyError as error:
                say(f"{path.name} has no {error}: an earlier version made it; run {name} again")
                continue
            page = put_between(page, name, text)
            written.append(name)
    PAGE.write_text(page)
    return written


def put_between(page: str, name: str, text: str) -> str:
    """``page`` with ``text`` between the markers of ``name``."""
    begin, end = f"<!-- benchmarks:{name} -->", f"<!-- /benchmarks:{name} -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise BenchmarkError(f"{PAGE.name} has no markers for {name}.")
    return f"{before}{begin}\n{text}\n{end}{after}"


def _origin(content: Result) -> str:
    where = content["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in where["packages"].items())
    quick = " A short run: figures are rough." if content["is_quick"] else ""
    return (
        f"Made by `{content['command']}` on {where['date']} at commit {where['commit']}: "
        f"{''.join(f'{gpu}; ' for gpu in where.get('gpus', ()))}{where['cpu']}, {where['cores']} cores, {where['ram_gib']} GiB, Linux {where['kernel']}, "
        f"load average after the run {where['load_after']}; Python {where['python']}, "
        f"{packages}.{quick}"
    )


def make_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown; every column but the first is right-aligned."""
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *rows))


def _number(value: float | None, digits: int = 0) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{value:,.{digits}f}"


# --- One function a benchmark -------------------------------------------------------------


def _engine(result: Result) -> str:
    rows = [
        [
            str(level["streams"]),
            _number(level["tokens_per_s"]["sluice"], 1),
            _number(level["tokens_per_s"]["vllm"], 1),
            f"**{level['efficiency']:.3f}**",
            " ".join(f"{share:.2f}" for share in level["each_round"]),
            _number(level["p50_first_ms"]["sluice"], 1),
            _number(level["p50_first_ms"]["vllm"], 1),
        ]
        for level in result["levels"]
    ]
    settings = ", ".join(f"{name} {value}" for name, value in result["settings"].items())
    head = (
        "streams", "Sluice tokens/s", "vLLM tokens/s", "efficiency", "each round",
        "Sluice first token p50 ms", "vLLM first token p50 ms",
    )  # fmt: skip
    return (
        f"{make_table(head, rows)}\n\n{result['tokens']} tokens a stream, {result['prompts']} "
        f"({result['prompt_tokens']:.0f} tokens with the chat template), "
        f"medians of {result['rounds']} rounds; both with {settings}."
    )


def _gateway(result: Result) -> str:
    floor = {r["concurrency"]: r["p50_ms"] for r in result["rows"] if r["server"] == "bare ASGI"}
    head = (
        "server", "at once", "CPU µs a request", "p50 ms", "p50 added ms", "p99 ms", "requests/s",
        "client's own µs",
    )  # fmt: skip
    rows = [_gateway_row(row, floor[row["concurrency"]]) for row in result["rows"]]
    ours = [row for row in result["rows"] if row["server"] == "sluice"]
    return "\n\n".join(
        (
            make_table(head, rows),
            _ratios(result),
            "Idle, µs CPU a second: " + _parts(result["idle_us_per_s"], 0) + ".",
            "Sluice's CPU by process:",
            _by_process(ours),
            (
                f"Peer: `{result['peer']}`. {result['prompts']}, {result['tokens']} output tokens, "
                f"medians of {result['rounds']} rounds."
            ),
            "Streamed, over all processes:",
            _streamed(result["streamed"]),
        )
    )


def _streamed(levels: Sequence[Result]) -> str:
    head = (
        "a token each", "CPU µs a token", "of it idling", "by process", "tokens/s",
        "tokens/s a core", "first token p50 ms",
    )  # fmt: skip
    rows = [
        [
            f"{level['decode_ms']} ms",
            f"**{level['cpu_us_per_token']:.1f}**",
            _number(level["idle_us_per_token"], 1),
            _parts(level["cpu_us_per_token_by_process"], 1),
            _number(level["tokens_per_s"]),
            _number(level["tokens_per_s_per_core"]),
            _number(level["p50_first_ms"], 1),
        ]
        for level in levels
    ]
    return f"{make_table(head, rows)}\n\n{levels[0]['streams']} streams of {levels[0]['tokens']} tokens."


def _gateway_row(row: Result, floor_ms: float) -> list[str]:
    # Sluice has its engine inside: all of its time counts as added.
    added = row["p50_ms"] - (floor_ms if row["server"] == "litellm" else 0)
    has_added = row["server"] != "bare ASGI" and row["concurrency"] == 1
    return [
        row["server"],
        str(row["concurrency"]),
        _number(row["cpu_us"]),
        _number(row["p50_ms"], 2),
        _number(added, 2) if has_added else "",
        _number(row["p99_ms"], 2),
        _number(row["requests_per_s"]),
        _number(row["client_us"]),
    ]


def _ratios(result: Result) -> str:
    cpu = {(row["server"], row["concurrency"]): row["cpu_us"] for row in result["rows"]}
    levels = sorted({row["concurrency"] for row in result["rows"]})
    return "LiteLLM's CPU a request over Sluice's: " + ", ".join(
        f"**{cpu['litellm', level] / cpu['sluice', level]:.1f}×** at {level}" for level in levels
    )


def _by_process(ours: Sequence[Result]) -> str:
    names = list(ours[0]["cpu_us_by_process"])
    rows = [[name, *(_number(row["cpu_us_by_process"][name]) for row in ours)] for name in names]
    return make_table(("process", *(f"µs at {row['concurrency']}" for row in ours)), rows)


def _parts(values: Mapping[str, float], digits: int) -> str:
    return ", ".join(f"{name} {value:.{digits}f}" for name, value in values.items() if value)


def _memory(result: Result) -> str:
    rows = [[f"{done:,}", f"{size / 2**20:.1f}"] for done, size in result["samples"]]
    statuses = ", ".join(f"{name} × {count:,}" for name, count in result["statuses"].items())
    return (
        f"**{result['growth']:+.1%}** at the end against the sample at {result['warm_up']:,} "
        f"requests, {result['largest_deviation']:+.1%} at most; {result['requests']:,} requests in "
        f"{result['seconds']:,.0f} s ({statuses}).\n\n{make_table(('requests', 'RSS MiB'), rows)}"
    )


def _sockets(result: Result) -> str:
    rows = [
        [
            which,
            _number(statistics.median(row["p50_ms"] for row in result[key]), 2),
            _number(statistics.median(row["p99_ms"] for row in result[key]), 2),
            _number(statistics.median(row["web_us"] for row in result[key])),
        ]
        for which, key in (("none", "closed"), (f"{result['sockets']:,}", "open"))
    ]
    table = make_table(
        ("sockets open", "p50 ms", "p99 ms", "web process, CPU µs a request beside pings"), rows
    )
    return (
        f"**{result['bytes_per_socket'] / 1000:.1f} kB** a socket: "
        f"{result['rss_before_bytes'] / 2**20:.0f} MiB before, "
        f"{result['rss_open_bytes'] / 2**20:.0f} MiB with {result['sockets']:,} open, of which "
        f"{result['opened_per_s']:.0f} a second were opened. Doing nothing they take "
        f"{result['idle_cpu_share']:.1%} of a core.\n\n{table}"
    )


def _admission(result: Result) -> str:
    rows = [
        [
            row["case"],
            str(row["limits"]),
            _number(row["admit_us"], 1),
            _number(row["settle_us"], 1),
            f"**{row['sum_us']:.1f}**",
            f"{row['best_us']:.0f}-{row['worst_us']:.0f}",
        ]
        for row in result["rows"]
    ]
    head = ("what is limited", "limits", "admit µs", "settle µs", "a request µs", "rounds")
    return (
        f"{make_table(head, rows)}\n\nMedians of {result['rounds']} rounds of {result['requests']:,} "
        f"requests, {result['at_once']} at once; {result['server']} with its append-only file. A "
        f"script that does nothing takes {result['floor_us']:.1f} µs."
    )


def _semcache(result: Result) -> str:
    def percent(share: float) -> str:
        return f"{100 * share:.1f} %"

    rows = [
        [
            f"**{level['threshold']:.2f}**"
            if level["threshold"] == result["default"]
            else f"{level['threshold']:.2f}",
            percent(level["recall"]),
            percent(level["wrong_of_hits"]),
            percent(level["false_when_absent"]),
            percent(level["bare_recall"]),
            percent(level["bare_wrong_of_hits"]),
            percent(level["bare_false_when_absent"]),
        ]
        for level in result["levels"]
    ]
    head = (
        "threshold", "found", "wrong of hits", "false when absent",
        "by likeness alone: found", "wrong of hits", "false when absent",
    )  # fmt: skip
    near = result["near_misses"]
    lost = max(level["recall_unsketched"] - level["recall"] for level in result["levels"])
    return (
        f"{make_table(head, rows)}\n\n{result['pairs']} pairs. Of {near['count']} problems with "
        f"one number changed the median likeness is {near['median']:.3f}; "
        f"{near['let_through']} pass the rules. Choosing by sketches loses at most "
        f"{percent(lost)} of what there is to find. A look-up among {result['entries']} takes "
        f"{_number(result['lookup_us'])} µs of CPU beside the embedding."
    )


def _routing(result: Result) -> str:
    prompts = [str(tokens) for tokens in result["prompt_tokens"]]
    rows = [
        [f"{row['replicas']:,}", *(_number(row["us"][tokens], 1) for tokens in prompts)]
        for row in result["rows"]
    ]
    head = ("replicas", *(f"µs, prompt of {tokens} tokens" for tokens in prompts))
    return (
        f"{make_table(head, rows)}\n\nMedians of {result['rounds']} rounds of "
        f"{result['decisions']:,} decisions, in CPU time."
    )


def _parsing(result: Result) -> str:
    names = {
        "read": f"an ordinary chat request read and checked ({result['body_bytes']} bytes)",
        "answer": "a whole answer written",
        "chunk": "a streamed chunk written",
    }
    rows = [[text, _number(result["us"][name], 1)] for name, text in names.items()]
    return (
        f"{make_table(('what', 'µs'), rows)}\n\nMedians of {result['rounds']} rounds of "
        f"{result['times']:,}, in CPU time."
    )


def _batch(result: Result) -> str:
    lines, tokens = result["lines"], result["lines"] * result["output_tokens"]
    rows = [
        [name, f"{result[key]:.1f}", f"{lines / result[key]:.0f}", f"{tokens / result[key]:,.0f}"]
        for name, key in (("the engine alone", "engine_s"), ("a batch", "batch_s"))
    ]
    profile = result["profile"]
    return (
        f"{make_table(('', 's', 'requests/s', 'output tokens/s'), rows)}\n\n"
        f"Share of the engine's own throughput: **{result['share']:.3f}**. {lines:,} lines of "
        f"{result['output_tokens']} tokens, one replica of {result['places']} places, simulated: "
        f"{profile['prefill_tokens_per_s']:,} prompt tokens/s, a step of {profile['decode_ms']:g} ms "
        f"and {profile['decode_ms_per_running']:g} ms a sequence."
    )


def _overload(result: Result) -> str:
    head = (
        "tier", "offered", "admitted", "first token p50 s", "p95 s", "p99 s", "bound s", "within",
    )  # fmt: skip
    rows = [
        [
            row["tier"],
            _number(row["offered"]),
            _number(row["admitted"]),
            _number(row["p50_first_s"], 1),
            _number(row["p95_first_s"], 1),
            _number(row["p99_first_s"], 1),
            _number(row["target_s"]),
            _number(None if row["within"] is None else 100 * row["within"], 1) + " %",
        ]
        for row in result["tiers"]
    ]
    return (
        f"Goodput at {result['factor']:g} times the peak: **{100 * result['goodput']:.1f} %** of it. "
        f"{result['refused']:,} refused in p50 {result['refused_p50_ms']:.1f} ms, p99 "
        f"**{result['refused_p99_ms']:.1f} ms**; {result['served']:,} served, {result['failed']} "
        f"failed.\n\n{make_table(head, rows)}\n\n{result['replicas']} replicas of together "
        f"{result['places']} places, `{result['profile']}`; peak {result['peak_tokens_per_s']:.0f} "
        f"tokens/s; {result['offered_per_s']:.1f} requests/s of {result['tokens']:.0f} tokens on average "
        f"offered for {result['window_s']:.0f} s after the ramp."
    )


def _fairness(result: Result) -> str:
    rows = [
        [
            row["beside"],
            _number(row["requests"]),
            _number(row["refused"]),
            _number(row["p50_ms"]),
            _number(row["p95_ms"]),
        ]
        for row in result["rows"]
    ]
    head = ("the light customer beside", "requests", "refused", "first token p50 ms", "p95 ms")
    return (
        f"{make_table(head, rows)}\n\nBeside a flood it waits **{result['against_well_behaved']:.2f}** "
        f"times what it waits beside well-behaved customers, {result['against_idle']:.2f} times "
        f"what it waits alone. Jain's index of {result['equals']} equals that each ask for the whole "
        f"engine: **{result['jain']:.4f}**. One replica of {result['places']} places, "
        f"`{result['profile']}`, {result['peak_per_s']:.1f} requests/s of {result['tokens']} tokens "
        "at most."
    )


def _linearity(result: Result) -> str:
    rows = [
        [
            str(row["gateways"]),
            str(row["replicas"]),
            _number(row["cpu_us"]),
            _number(row["net_cpu_us"]),
            _number(row["idle_us_per_s"] / 1000, 1),
            _number(row["requests_per_s"]),
            _number(row["p50_ms"], 1),
        ]
        for row in result["rows"]
    ]
    head = (
        "gateways", "replicas", "CPU µs a request", "without what idles", "idle ms/s",
        "requests/s", "p50 ms",
    )  # fmt: skip
    return (
        f"{make_table(head, rows)}\n\nThe dearest cell costs **{100 * result['spread']:.0f} %** more "
        f"than the cheapest, {100 * result['net_spread']:.0f} % without what idles. "
        f"{result['concurrency']} at once, medians of {result['rounds']} rounds."
    )


def _tenancy(result: Result) -> str:
    found, big = result["lookups"], result["big"]
    warm, change = found["warm"], found["scope_change_us"]
    times = [
        [label, *(_number(found[name][share], 2) for share in ("least", "p50", "p99"))]
        for label, name in (
            ("the look-up in PostgreSQL", "get_principal_ms"),
            ("authentication of a cold key", "authenticate_cold_ms"),
        )
    ]
    pages = [
        [
            page["label"],
            page["kind"],
            str(page["queries"]),
            _number(page["cpu_ms"], 1),
            _number(page["least_ms"], 1),
            f"**{page['median_ms']:.1f}**",
            _number(page["p95_ms"], 1),
        ]
        for page in result["pages"]
    ]
    return "\n\n".join(
        (
            (
                f"{result['organizations']:,} organizations, {result['keys']:,} keys; the big one has "
                f"{big['keys']:,} keys, {big['members']:,} members, {big['usage_events']:,} usage "
                f"events and {big['audit_events']:,} audit events."
            ),
            make_table(("cold key", "least ms", "p50 ms", "p99 ms"), times),
            (
                f"{found['keys']:,} keys, each looked up once: {found['queries']} statements and two "
                f"changes of scope, {found['get_principal_cpu_us']:,.0f} µs CPU of ours (least "
                f"{found['get_principal_least_cpu_us']:,.0f}). A key that is known takes "
                f"**{warm['median_us']:.1f} µs** CPU (least {warm['least_us']:.1f}) and "
                f"{warm['look_ups']} statements. A statement in another scope than the one before "
                f"takes {change['median']:.0f} µs more (least {change['least']:.0f})."
            ),
            make_table(
                ("page", "for", "statements", "our CPU ms", "least ms", "median ms", "p95 ms"),
                pages,
            ),
        )
    )


def _profile(result: Result) -> str:
    parts = []
    for name, tables in result["processes"].items():
        whole = result["cpu_us"][name]
        parts.append(f"### {name}: {whole:,.0f} µs a request, {result['concurrency']} at once")
        parts.append(
            make_table(
                ("thread", "user µs", "system µs"),
                [
                    [f"`{t}`", _number(user), _number(system)]
                    for t, user, system in tables["threads"]
                ],
            )
        )
        for key, title in (("self", "self time"), ("ours", "our functions, inclusive")):
            rows = [
                [f"`{function}`", f"{share:.1%}", _number(share * whole)]
                for function, share in tables[key][:15]
            ]
            parts.append(make_table((title, "share", "about µs"), rows))
    return "\n\n".join(parts)


TABLES: dict[str, Callable[[Result], str]] = {
    "engine": _engine,
    "engine-gpu": _engine,
    "gateway": _gateway,
    "memory": _memory,
    "admission": _admission,
    "routing": _routing,
    "parsing": _parsing,
    "batch": _batch,
    "overload": _overload,
    "fairness": _fairness,
    "linearity": _linearity,
    "semcache": _semcache,
    "sockets": _sockets,
    "tenancy": _tenancy,
    "profile": _profile,
}
