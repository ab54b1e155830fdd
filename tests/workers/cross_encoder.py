"""A cross-encoder of a few kilobytes on real vLLM, beside transformers; run as a process.

Prints a JSON object: what each of them makes of the same pairs.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from pathlib import Path

import msgspec
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification

from inference.engine_protocol import EngineSpec
from inference.prompts import PromptRenderer
from inference.wire import Delta
from tests.workers.factory import make_submission
from workers.engines.vllm import VllmEngine

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "cat", "dog", "sat", "mat", "the", "on"]
PAIRS = [("cat", "the cat sat"), ("cat", "dog"), ("the dog sat on", "mat the cat on the mat")]


def write_model(folder: Path) -> None:
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=64, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64, num_labels=1,
        initializer_range=0.5,  # else all scores are one half
    )  # fmt: skip
    BertForSequenceClassification(config).eval().save_pretrained(folder)
    tokenizer = Tokenizer(
        models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(WORDS[:4])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"}
    about |= {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))


def by_transformers(folder: Path, pairs: list[tuple[list[int], int]]) -> list[float]:
    model = BertForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    scores = []
    for ids, place in pairs:
        types = [int(index >= place) for index in range(len(ids))]
        with torch.no_grad():
            logits = model(torch.tensor([ids]), token_type_ids=torch.tensor([types])).logits
        scores.append(torch.sigmoid(logits)[0, 0].item())
    return scores


async def by_engine(folder: Path, pairs: list[tuple[list[int], int]]) -> list[float]:
    scores: dict[str, float] = {}
    ended = asyncio.Event()

    def emit(delta: Delta) -> None:
        assert delta.finish_reason == "stop", delta
        (scores[delta.request_id.partition("#")[0]],) = struct.unpack("<f", delta.embedding)
        if len(scores) == len(pairs):
            ended.set()

    def on_death(error: BaseException) -> None:
        raise error

    engine = VllmEngine()
    await engine.start(
        EngineSpec("tiny", "embedding", str(folder), "float32", 64, 4), emit, on_death
    )
    for index, (ids, place) in enumerate(pairs):
        submission = msgspec.structs.replace(
            make_submission(), request_id=f"{index}", prompt_ids=ids, sampling=None, pair_at=place
        )
        await engine.submit(submission)
    await asyncio.wait_for(ended.wait(), 60)
    await engine.stop()
    return [scores[f"{index}"] for index in range(len(pairs))]


async def main(folder: Path) -> None:
    write_model(folder)
    renderer = PromptRenderer.load(folder)
    pairs = await renderer.encode_pairs(PAIRS, (None, None))
    found = await by_engine(folder, pairs)
    expected = by_transformers(folder, pairs)
    # The same ids as if the second text were part of the first.
    untold = by_transformers(folder, [(ids, len(ids)) for ids, _ in pairs])
    print(json.dumps({"found": found, "expected": expected, "untold": untold}))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
