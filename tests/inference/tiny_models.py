"""Models of a few kilobytes: real formats, made here."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import zipfile
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers


def tiny_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def write_tiny_model(folder: Path, *, kind: str = "chat") -> Path:
    """A folder that passes for a model: the weights are a safetensors file of no tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    name = "LlamaForCausalLM" if kind == "chat" else "BertModel"
    config = {
        "architectures": [name],
        "max_position_embeddings": 128,
        "hidden_size": 8,
        "dtype": "float32",
        "eos_token_id": 2,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(tiny_tokenizer().to_str())
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "b"}))
    header = b'{"__metadata__":{}}'
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    (folder / "README.md").write_text("---\nlicense: cc0-1.0\n---\n# Tiny\n")
    return folder


def write_wheel(
    folder: Path,
    members: dict[str, bytes],
    *,
    package: str = "tiny-weights",
    version: str = "1.0",
    recorded: dict[str, tuple[bytes, int]] | None = None,
    unrecorded: frozenset[str] = frozenset(),
) -> Path:
    """A wheel with ``members``; ``recorded`` makes RECORD lie about content and size."""
    distribution = package.replace("-", "_")
    info = f"{distribution}-{version}.dist-info"
    about = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\nLicense: CC0-1.0\n"
    files = {
        **members,
        f"{info}/METADATA": about.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/LICENSE": b"Do as you like.\n",
    }
    lines = [
        _record_line(name, *(recorded or {}).get(name, (content, len(content))))
        for name, content in files.items()
        if name not in unrecorded
    ]
    path = folder / f"{distribution}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr(f"{info}/RECORD", "\n".join([*lines, f"{info}/RECORD,,"]))
    return path


def _record_line(name: str, content: bytes, size: int) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{size}"


def write_tiny_gguf(path: Path) -> Path:
    """A Llama of one layer with a byte-level vocabulary, as llama.cpp would write it."""
    import numpy
    from gguf import GGUFWriter

    width, inner, heads = 32, 64, 2
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *symbols, "ab"]
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(256)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(vocabulary))
    writer.add_string("general.license", "cc0-1.0")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(vocabulary)
    writer.add_token_types([3, 3, 3, *([1] * (len(vocabulary) - 3))])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    random = numpy.random.default_rng(7)
    shapes = {
        "token_embd.weight": (len(vocabulary), width),
        "output_norm.weight": (width,),
        "blk.0.attn_norm.weight": (width,),
        "blk.0.ffn_norm.weight": (width,),
        "blk.0.attn_q.weight": (width, width),
        "blk.0.attn_k.weight": (width, width),
        "blk.0.attn_v.weight": (width, width),
        "blk.0.attn_output.weight": (width, width),
        "blk.0.ffn_gate.weight": (inner, width),
        "blk.0.ffn_up.weight": (inner, width),
        "blk.0.ffn_down.weight": (width, inner),
    }
    for name, shape in shapes.items():
        writer.add_tensor(name, random.standard_normal(shape).astype(numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
