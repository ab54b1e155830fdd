"""Measured speed, side by side with what it is compared to; ``python -m benchmarks``.

``load`` asks and times, ``sizes`` bounds it, ``arithmetic`` turns outcomes into
figures; ``sluice``, ``vllm_server``, ``litellm_proxy`` and ``instant_upstream`` are
the servers that are asked; ``engine``, ``gateway``, ``memory`` and ``hotspots`` are what
is measured; ``report`` keeps results and renders ``docs/performance.md``.
"""
