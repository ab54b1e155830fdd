"""A CPU replica uses what its machine is fast at."""

from __future__ import annotations

import pytest

from workers.engines import cpu


@pytest.mark.parametrize(
    ("dtype", "flags", "chosen"),
    [
        ("auto", {"avx512f", "avx512_bf16"}, "bfloat16"),
        ("auto", {"avx512f", "amx_bf16"}, "bfloat16"),
        ("auto", {"asimd", "bf16"}, "bfloat16"),
        ("auto", {"avx512f"}, "float32"),
        ("auto", set(), "float32"),
        ("bfloat16", set(), "bfloat16"),
        ("float16", {"amx_bf16"}, "float16"),
    ],
)
def test_auto_is_bfloat16_only_where_the_cpu_computes_it(
    dtype: str, flags: set[str], chosen: str
) -> None:
    assert cpu.dtype_for(dtype, frozenset(flags)) == chosen


@pytest.mark.parametrize(
    ("threads", "cores", "bound"),
    [
        ("auto", [0, 1], "0,1"),
        ("auto", [2, 3, 6, 7], "2,3,6,7"),
        ("auto", list(range(16)), "auto"),
        ("all", list(range(6)), "0,1,2,3,4,5"),
        ("0-3", [0, 1], "0-3"),
        ("nobind", [0, 1], "nobind"),
    ],
)
def test_few_cores_are_all_used(threads: str, cores: list[int], bound: str) -> None:
    assert cpu.threads_for(threads, cores) == bound


def test_this_machine_has_a_dtype_and_threads() -> None:
    assert cpu.dtype_for("auto") in {"bfloat16", "float32"}
    assert cpu.threads_for("all")
