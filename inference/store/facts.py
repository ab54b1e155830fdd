"""What a folder of weights says of itself: kind, dtype, context and dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from inference.errors import BadSource

CHAT = "chat"
EMBEDDING = "embedding"


@dataclass(frozen=True)
class Facts:
    kind: str  # inference.models.Model.Kind
    dtype: str
    max_context_tokens: int
    embedding_dimensions: int | None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty when there is no such file."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except FileNotFoundError:
        return {}
    except msgspec.DecodeError as error:
        raise BadSource(f"{path.name} is not a JSON object: {error}") from error


def read_facts(folder: Path) -> Facts:
    config = read_json(folder / "config.json")
    text = config.get("text_config") or config
    kind = CHAT if _generates(config) else EMBEDDING
    sentence = read_json(folder / "sentence_bert_config.json")
    limits = [
        text.get("max_position_embeddings"),
        sentence.get("max_seq_length") if kind == EMBEDDING else None,
    ]
    known = [limit for limit in limits if isinstance(limit, int) and limit > 0]
    return Facts(
        kind=kind,
        dtype=str(text.get("dtype") or text.get("torch_dtype") or "auto"),
        max_context_tokens=min(known, default=0),
        embedding_dimensions=text.get("hidden_size") if kind == EMBEDDING else None,
    )


def matryoshka_dimensions(folder: Path) -> frozenset[int] | None:
    """To how many dimensions the model's embeddings may be cut: these, any number (empty), or
    None if cut ones mean nothing. As vLLM reads ``config.json``."""
    config = read_json(folder / "config.json")
    sizes = config.get("matryoshka_dimensions")
    if isinstance(sizes, list) and sizes:
        return frozenset(size for size in sizes if isinstance(size, int))
    return frozenset() if config.get("is_matryoshka") is True else None


def is_cross_encoder(folder: Path) -> bool:
    """Whether the model reads two texts at once and gives one score."""
    config = read_json(folder / "config.json")
    labels = config.get("id2label")
    count = len(labels) if isinstance(labels, dict) else config.get("num_labels", 2)
    names = config.get("architectures") or ()
    return count == 1 and any(name.endswith("ForSequenceClassification") for name in names)


def _generates(config: dict[str, Any]) -> bool:
    """Embedding models name a bare encoder (``BertModel``) in ``architectures``."""
    return any(
        name.endswith(("ForCausalLM", "ForConditionalGeneration", "LMHeadModel"))
        for name in config.get("architectures") or ()
    )
