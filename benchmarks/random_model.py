"""``python -m benchmarks.random_model FOLDER --like STORED``: a model of random weights.

A Llama of about 8 billion parameters in STORED's vocabulary, with its tokenizer and chat
template: it costs an engine what a real model of that size costs, and needs no download.
Engines make the weights themselves (``load_format=dummy``); the one file of weights is
there because the model store takes no folder without.
"""

from __future__ import annotations

import argparse
import json
import shutil
import struct
from pathlib import Path

# Meta's Llama 3.1 8B but for the vocabulary.
SHAPE = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "tie_word_embeddings": False,
    "dtype": "bfloat16",
}
TEXTS = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")


def make(folder: Path, like: Path, shape: dict[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config = {**json.loads((like / "config.json").read_text()), **shape}
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    for name in TEXTS:
        if (like / name).is_file():
            shutil.copyfile(like / name, folder / name)
    (folder / "model.safetensors").write_bytes(_placeholder())


def _placeholder() -> bytes:
    """A safetensors file of one number: eight bytes of length, a JSON header, the data."""
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    header = json.dumps({"placeholder": entry}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--like", type=Path, required=True, help="folder of a stored model")
    parser.add_argument("--shape", type=json.loads, default={}, help="JSON over the default shape")
    arguments = parser.parse_args()
    make(arguments.folder, arguments.like, {**SHAPE, **arguments.shape})


if __name__ == "__main__":
    main()
