"""How an engine without a GPU gets the most out of the machine it is on."""

from __future__ import annotations

import os
from pathlib import Path

# What computes bfloat16 natively. Without, every product is emulated: on an AVX-512
# machine of 2 cores vLLM's own server made 57 tokens/s in bfloat16 and 152 in
# float32 at 32 streams, and took three times as long to the first token.
BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
# vLLM's "auto" leaves a core to its front end. With few cores that is too dear a
# gift (152 against 265 tokens/s on 2 cores).
FEW_CORES = 4


def dtype_for(dtype: str, flags: frozenset[str] | None = None) -> str:
    """``dtype`` as it is, or for ``auto`` what this CPU is fast at."""
    if dtype != "auto":
        return dtype
    known = _cpu_flags() if flags is None else flags
    return "bfloat16" if known & BFLOAT16_FLAGS else "float32"


def threads_for(threads: str, cores: list[int] | None = None) -> str:
    """vLLM's VLLM_CPU_OMP_THREADS_BIND for our ENGINE_THREADS.

    ``auto`` is every core of a small machine and vLLM's own choice on others,
    ``all`` every core; anything else is passed on.
    """
    usable = sorted(os.sched_getaffinity(0)) if cores is None else cores
    if threads == "all" or (threads == "auto" and len(usable) <= FEW_CORES):
        return ",".join(map(str, usable))
    return threads


def _cpu_flags() -> frozenset[str]:
    """The kernel's names of this CPU's abilities (x86 says flags, ARM Features)."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in {"flags", "Features"}:
            return frozenset(value.split())
    return frozenset()
