"""How often the semantic cache is right, by its threshold, on paraphrases that people wrote."""

from __future__ import annotations

import os
from pathlib import Path

import django

from benchmarks.server import BenchmarkError
from benchmarks.sizes import Sizes

DATA_VARIABLE = "SEMCACHE_DATA"


def measure(sizes: Sizes) -> dict[str, object]:
    """Shares of questions, and microseconds of CPU a look-up; see ``similar_questions``."""
    folder = Path(os.environ.get(DATA_VARIABLE, ""))
    if not (folder / "semcache" / "gptcache_mock_data.json").is_file():
        raise BenchmarkError(
            f"{DATA_VARIABLE} names no folder with semcache/gptcache_mock_data.json."
        )
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    # Models can be imported from here on.
    from benchmarks.similar_questions import compare

    return compare(folder)
