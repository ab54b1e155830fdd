"""What a model's folder says about its prompts, read as transformers reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inference.errors import StoreError
from inference.store.facts import read_facts, read_json

# transformers' SPECIAL_TOKENS_ATTRIBUTES: what a chat template may name.
NAMED_TOKENS = (
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
)  # fmt: skip


# Of a generation config, what requests may leave open; vLLM's server takes these too.
SAMPLING_DEFAULTS = (
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty",
    "frequency_penalty",
)  # fmt: skip


@dataclass(frozen=True)
class PromptFiles:
    """``templates`` is by name; ``default`` and perhaps ``tool_use``. Empty: no chat.

    ``add_bos_token`` of the configuration is not here: beside a ``tokenizer.json``
    transformers ignores it, for that file's own template says where bos goes.
    """

    tokenizer_json: str
    special_tokens: dict[str, str]
    templates: dict[str, str]
    eos_token_ids: frozenset[int]
    max_context_tokens: int
    sampling_defaults: dict[str, float] = field(default_factory=dict)


def read_prompt_files(folder: Path) -> PromptFiles:
    """Raises ``StoreError`` when the folder has no tokenizer or a malformed file."""
    config = read_json(folder / "tokenizer_config.json")
    try:
        tokenizer_json = (folder / "tokenizer.json").read_text()
    except FileNotFoundError as error:
        raise StoreError(f"{folder.name} has no tokenizer.json.") from error
    return PromptFiles(
        tokenizer_json=tokenizer_json,
        special_tokens=_special_tokens(folder, config),
        templates=_templates(folder, config),
        eos_token_ids=_eos_token_ids(folder),
        max_context_tokens=read_facts(folder).max_context_tokens,
        sampling_defaults=_sampling_defaults(folder),
    )


def _sampling_defaults(folder: Path) -> dict[str, float]:
    config = read_json(folder / "generation_config.json")
    found = {name: config.get(name) for name in SAMPLING_DEFAULTS}
    return {name: value for name, value in found.items() if isinstance(value, int | float)}


def _special_tokens(folder: Path, config: dict[str, Any]) -> dict[str, str]:
    """``bos_token`` and its like; a token is written as text or as an object."""
    named = {**read_json(folder / "special_tokens_map.json"), **config}
    tokens = {name: named.get(name) for name in NAMED_TOKENS}
    texts = {
        name: token.get("content") if isinstance(token, dict) else token
        for name, token in tokens.items()
    }
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def _templates(folder: Path, config: dict[str, Any]) -> dict[str, str]:
    """Template files win over the one in ``tokenizer_config.json``."""
    files = {path.stem: path for path in sorted(folder.glob("chat_templates/*.jinja"))}
    if (folder / "chat_template.jinja").is_file():
        files["default"] = folder / "chat_template.jinja"
    if files:
        return {name: path.read_text() for name, path in files.items()}
    inline = config.get("chat_template")
    if isinstance(inline, list):
        return {entry["name"]: entry["template"] for entry in inline}
    return {"default": inline} if isinstance(inline, str) else {}


def _eos_token_ids(folder: Path) -> frozenset[int]:
    """All ids that end generation, of the model and of its generation config."""
    found: set[int] = set()
    for name in ("config.json", "generation_config.json"):
        ids = read_json(folder / name).get("eos_token_id")
        found.update(ids if isinstance(ids, list) else [ids] if isinstance(ids, int) else [])
    return frozenset(found)
