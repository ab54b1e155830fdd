"""Child process of ``conversion``: GGUF in, a folder for transformers and vLLM out.

Usage: convert_gguf.py SOURCE.gguf TARGET_FOLDER DTYPE. Imports nothing of ours.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
# llama.cpp names the pre-tokenizer of a GPT-2-style vocabulary; these split every
# digit off first. transformers 5.19 drops that step, which changes the tokens of
# a number after several spaces from those that the model was trained on.
DIGITS_FIRST = {"smollm", "starcoder", "refact", "command-r"}
# Left by loading through a local GGUF file; meaningless wherever the folder goes.
STRAY_KEYS = ("is_local", "local_files_only", "name_or_path", "gguf_file")


def say(line: str) -> None:
    print(f"sluice: {line}", flush=True)


def die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:  # it died before we asked
        sys.exit("the parent is gone")


def convert(source: Path, target: Path, dtype: str) -> None:
    say("loading torch and transformers")
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.set_num_threads(max(1, min(4, os.cpu_count() or 1)))
    fields = read_fields(source)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    restore_pre_tokenizer(tokenizer, fields.get("tokenizer.ggml.pre", ""))
    tokenizer.model_max_length = context_length(fields) or tokenizer.model_max_length
    say("dequantizing the weights")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        source.parent,
        gguf_file=source.name,
        dtype=getattr(torch, dtype),
        quantization_config=transformers.GgufConfig(dequantize=True),
    )
    say("writing safetensors")
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    clean_tokenizer_config(target / "tokenizer_config.json")
    (target / ".tool").write_text(f"transformers {transformers.__version__}\n")
    (target / ".licence").write_text(str(fields.get("general.license", "")))


def read_fields(source: Path) -> dict[str, object]:
    """The GGUF header's scalar fields."""
    from gguf import GGUFReader

    wanted = ("general.", "tokenizer.ggml.pre")
    return {
        name: field.contents()
        for name, field in GGUFReader(source).fields.items()
        if name.startswith(wanted) or name.endswith(".context_length")
    }


def context_length(fields: dict[str, object]) -> int:
    found = [value for name, value in fields.items() if name.endswith(".context_length")]
    return int(str(found[0])) if found else 0


def restore_pre_tokenizer(tokenizer: object, name: object) -> None:
    from tokenizers import pre_tokenizers

    backend = tokenizer.backend_tokenizer  # type: ignore[attr-defined]
    if name in DIGITS_FIRST and isinstance(backend.pre_tokenizer, pre_tokenizers.ByteLevel):
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )


def clean_tokenizer_config(path: Path) -> None:
    config = json.loads(path.read_text())
    kept = {key: value for key, value in config.items() if key not in STRAY_KEYS}
    path.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    die_with_parent()
    convert(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
