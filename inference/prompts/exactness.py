"""Which shortcuts give the very same tokens, read off a ``tokenizer.json``.

``tokenizers`` first finds the added tokens that are not normalized, leftmost and
longest, in the raw text; each piece between them is then normalized, split and
encoded by itself. So cutting a text at those tokens changes nothing, as long as
no token looks at its neighbours and no step at a piece's place in the text.
Everything here answers "not sure" (None, False) for what it does not know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Description = dict[str, Any]

# Steps that look at one piece only. Metaspace is not among them: its "first"
# scheme depends on where in the whole text a piece stands.
LOCAL_PRE_TOKENIZERS = frozenset(
    {"ByteLevel", "Digits", "Split", "Punctuation", "Whitespace", "WhitespaceSplit",
     "BertPreTokenizer"}
)  # fmt: skip
LOCAL_NORMALIZERS = frozenset({"BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD"})
# Steps that drop no character, but for those whose behaviour is "Removed".
KEEPING_PRE_TOKENIZERS = frozenset({"ByteLevel", "Digits", "Split", "Punctuation"})
# A composed character has at most this many code points in its decomposition.
NFC_FACTOR = 4
# Every byte that UTF-8 can hold.
UTF8_BYTES = frozenset(range(0xF5)) - {0xC0, 0xC1}
CONTINUATION_BYTES = frozenset(range(0x80, 0xC0))


def _steps(step: Description | None) -> Iterator[Description]:
    """A normalizer's or pre-tokenizer's steps, sequences flattened."""
    if step is None:
        return
    nested = step.get("pretokenizers") or step.get("normalizers")
    if step["type"] != "Sequence":
        yield step
    for inner in nested or ():
        yield from _steps(inner)


def _kinds(step: Description | None) -> set[str]:
    return {inner["type"] for inner in _steps(step)}


def cutting_tokens(description: Description) -> dict[str, int]:
    """The added tokens that are found in the raw text, with their ids."""
    return {
        token["content"]: token["id"]
        for token in description.get("added_tokens") or ()
        if not token["normalized"] and token["content"]
    }


def get_cutter(description: Description) -> re.Pattern[str] | None:
    """A pattern that splits a text into pieces and (odd places) added tokens."""
    tokens = sorted(cutting_tokens(description), key=len, reverse=True)
    looks_around = any(
        token["lstrip"] or token["rstrip"] or token["single_word"]
        for token in description.get("added_tokens") or ()
    )
    is_local = (
        _kinds(description.get("pre_tokenizer")) <= LOCAL_PRE_TOKENIZERS
        and _kinds(description.get("normalizer")) <= LOCAL_NORMALIZERS
    )
    if not tokens or looks_around or not is_local:
        return None
    # Longest first: of literals, that makes a regex as leftmost-longest as the library.
    return re.compile("(" + "|".join(map(re.escape, tokens)) + ")")


def cuts_at_space(description: Description) -> bool:
    """Whether the tokens before a space do not depend on what follows it."""
    return (
        _kinds(description.get("pre_tokenizer")) == {"BertPreTokenizer"}
        and _kinds(description.get("normalizer")) <= {"BertNormalizer"}
        and not any(" " in token["content"] for token in description.get("added_tokens") or ())
    )


@dataclass(frozen=True)
class LengthBound:
    """A token stands for at most ``chars_per_token`` characters, ``dropped`` ones aside.

    ``dropped`` are the ASCII characters that a byte-level vocabulary has no token for:
    they vanish.
    """

    chars_per_token: int
    dropped: str

    def min_tokens(self, text: str) -> int:
        """No fewer tokens than these come of ``text``."""
        kept = len(text) - sum(map(text.count, self.dropped))
        return -(-kept // self.chars_per_token)


def get_length_bound(description: Description) -> LengthBound | None:
    """Known for byte-level BPE, where every byte that has a symbol ends up in some token."""
    model, steps = description["model"], list(_steps(description.get("pre_tokenizer")))
    kinds = {step["type"] for step in steps}
    normalizers = _kinds(description.get("normalizer"))
    added = description.get("added_tokens") or ()
    symbols = _byte_symbols()
    missing = {byte for byte in UTF8_BYTES if symbols[byte] not in model["vocab"]}
    unbounded = (
        model.get("type") != "BPE"
        or not {"ByteLevel"} <= kinds <= KEEPING_PRE_TOKENIZERS
        or any(step.get("behavior") == "Removed" for step in steps)
        or not normalizers <= {"NFC"}
        or any(token["lstrip"] or token["rstrip"] for token in added)
        # With all continuation bytes there, no character beyond ASCII vanishes whole.
        or missing & CONTINUATION_BYTES
    )
    if unbounded:
        return None
    longest = max(map(len, [*model["vocab"], *(token["content"] for token in added)]))
    return LengthBound(
        longest * (NFC_FACTOR if normalizers else 1),
        "".join(chr(byte) for byte in sorted(missing) if byte < 0x80),
    )


def _byte_symbols() -> dict[int, str]:
    """GPT-2's printable stand-ins for bytes: themselves, or 256 and up."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in printable]
    symbols = {byte: chr(byte) for byte in printable}
    return symbols | {byte: chr(256 + place) for place, byte in enumerate(hidden)}
