"""Paraphrases, unrelated questions and near misses against each other, by the product's own
embedding model, sketches and rules (``inference.likeness``).

Each pair's first text is asked before, its second is looked up among them. A hit is right
if what it found is the pair's own first text. A question whose pair's first text is taken
away has no answer there, so every hit of it is false; the data has near-duplicates among
its first texts, so some of those are not, and the shares are upper bounds.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from array import array
from pathlib import Path

from benchmarks.embedder import Embedder
from inference.likeness import must_agree, nearest, similarity, sketch_of, vector_of
from inference.semantic_cache import COMPARED, DEFAULT_THRESHOLD, MOST_ENTRIES

THRESHOLDS = (0.80, 0.85, 0.90, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98)
NEAR_MISSES = 200
# Best of each question: index of what it found (-1: nothing) and how alike it is.
Found = list[tuple[int, float]]


def compare(folder: Path) -> dict[str, object]:
    pairs = json.loads((folder / "semcache" / "gptcache_mock_data.json").read_text())
    asked, again = ([pair[name] for pair in pairs] for name in ("origin", "similar"))
    changed = _near_misses(folder)
    first, second, problems, others = asyncio.run(
        _embed(asked, again, [one for one, _ in changed], [other for _, other in changed])
    )
    rules = [must_agree(text) for text in asked], [must_agree(text) for text in again]
    return {
        "pairs": len(pairs),
        "default": DEFAULT_THRESHOLD,
        "levels": _levels(asked, first, second, rules),
        "near_misses": {
            "count": len(changed),
            "median": sorted(map(similarity, problems, others))[len(changed) // 2],
            "let_through": sum(must_agree(one) == must_agree(other) for one, other in changed),
        },
        "lookup_us": _lookup_us(first),
        "entries": min(MOST_ENTRIES, len(first)),
    }


def _near_misses(folder: Path) -> list[tuple[str, str]]:
    """Problems beside themselves with one number changed: other questions, other answers."""
    lines = (folder / "prompts" / "gsm8k_test.jsonl").read_text().splitlines()
    problems = [json.loads(line)["question"] for line in lines[:NEAR_MISSES]]
    return [
        (text, re.sub(r"\d+", lambda found: str(int(found[0]) + 1), text, count=1))
        for text in problems
        if re.search(r"\d", text)
    ]


async def _embed(*groups: list[str]) -> list[list[array[float]]]:
    async with Embedder() as embedder:
        return [[vector_of(raw) for raw in await embedder.embed(group)] for group in groups]


def _levels(
    texts: list[str],
    first: list[array[float]],
    second: list[array[float]],
    rules: tuple[list[str], list[str]],
) -> list[dict[str, float]]:
    none = [""] * len(texts)
    found = _look_up(texts, first, second, *rules)
    bare = _look_up(texts, first, second, none, none)
    exact = _look_up(texts, first, second, *rules, compared=len(first))
    absent = _look_up(texts, first, second, *rules, without_own=True)
    bare_absent = _look_up(texts, first, second, none, none, without_own=True)
    return [
        {
            "threshold": threshold,
            **_shares("", texts, found, absent, threshold),
            **_shares("bare_", texts, bare, bare_absent, threshold),
            "recall_unsketched": _recall(texts, exact, threshold),
        }
        for threshold in THRESHOLDS
    ]


def _look_up(
    texts: list[str],
    first: list[array[float]],
    second: list[array[float]],
    rules: list[str],
    rules_again: list[str],
    *,
    compared: int = COMPARED,
    without_own: bool = False,
) -> Found:
    sketches = [sketch_of(vector) for vector in first]
    scopes: dict[str, list[int]] = {}
    for index, rule in enumerate(rules):
        scopes.setdefault(rule, []).append(index)
    found: Found = []
    for asked, (vector, rule) in enumerate(zip(second, rules_again, strict=True)):
        scope = scopes.get(rule, [])
        if without_own:
            scope = [index for index in scope if texts[index] != texts[asked]]
        near = nearest(sketch_of(vector), [sketches[index] for index in scope], compared)
        alike = [(similarity(vector, first[scope[place]]), scope[place]) for place in near]
        best, index = max(alike, default=(0.0, -1))
        found.append((index, best))
    return found


def _shares(
    name: str, texts: list[str], found: Found, absent: Found, threshold: float
) -> dict[str, float]:
    hits = [(asked, index) for asked, (index, best) in enumerate(found) if best >= threshold]
    wrong = sum(texts[asked] != texts[index] for asked, index in hits)
    return {
        f"{name}recall": _recall(texts, found, threshold),
        f"{name}wrong_of_hits": wrong / len(hits) if hits else 0.0,
        f"{name}false_when_absent": sum(best >= threshold for _, best in absent) / len(absent),
    }


def _recall(texts: list[str], found: Found, threshold: float) -> float:
    right = sum(
        best >= threshold and texts[asked] == texts[index]
        for asked, (index, best) in enumerate(found)
    )
    return right / len(found)


def _lookup_us(vectors: list[array[float]], rounds: int = 50) -> float:
    """CPU of one look-up among as many as an organization may have, all in one scope."""
    sketches = [sketch_of(vector) for vector in vectors[:MOST_ENTRIES]]
    began = time.process_time()
    for asked in vectors[:rounds]:
        for index in nearest(sketch_of(asked), sketches, COMPARED):
            similarity(asked, vectors[index])
    return (time.process_time() - began) / rounds * 1e6
