"""Distinct prompts: MT-bench questions where the shared data is there, else our own."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
MT_BENCH = BASE_DIR.parent / "shared" / "data" / "prompts" / "mt_bench_questions.jsonl"
_BUILT_IN = (
    "Compose a travel blog post about a recent trip to {}, with its food and its people.",
    "Explain to a ten-year-old why {} has seasons, and what would change without them.",
    "Write a polite letter to the mayor of {} about the noise of the new tram line.",
    "List the arguments for and against a new harbour in {}, then say which ones weigh more.",
    "Draft a plan for one week of cycling around {}, with distances and places to sleep.",
    "Summarize the history of {} in five sentences that a tourist would remember.",
)
_PLACES = (
    "Hawaii",
    "Lisbon",
    "Nairobi",
    "Kyoto",
    "Oslo",
    "Lima",
    "Hanoi",
    "Quebec",
    "Tartu",
)


def questions() -> list[str]:
    if MT_BENCH.is_file():
        lines = MT_BENCH.read_text().splitlines()
        return [json.loads(line)["turns"][0] for line in lines if line.strip()]
    return [text.format(place) for place in _PLACES for text in _BUILT_IN]


def source() -> str:
    return "MT-bench questions" if MT_BENCH.is_file() else "built-in prompts"


def distinct(start: int = 0, most_characters: int | None = None) -> Iterator[str]:
    """Endless prompts, no two alike from their first words on, so that no prefix repeats."""
    texts = [text[:most_characters] for text in questions()]
    for number in itertools.count(start):
        yield f"({number}) {texts[number % len(texts)]}"
