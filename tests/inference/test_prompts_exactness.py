"""Where cutting a text would change its tokens, it is not cut."""

from __future__ import annotations

import json

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from inference.prompts import exactness
from inference.prompts.folder import PromptFiles
from inference.prompts.tokens import Tokens


def byte_level(**token: bool) -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({symbol: i for i, symbol in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = AddedToken("<x>", special=True, normalized=False, **token)
    longer = AddedToken("<x><y>", special=True, normalized=False)
    tokenizer.add_special_tokens([special, longer])
    return tokenizer


def describe(tokenizer: Tokenizer) -> exactness.Description:
    description: exactness.Description = json.loads(tokenizer.to_str())
    return description


def tokens_of(tokenizer: Tokenizer) -> Tokens:
    return Tokens(PromptFiles(tokenizer.to_str(), {}, {}, frozenset(), 100))


def test_the_longest_token_wins_as_in_the_library() -> None:
    tokenizer = byte_level()
    for text in ("a<x><y>b", "<x><x><y>", "<x>", "<x><y", "<<x>>"):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokens_of(tokenizer).encode(text, False, 1) == ids


@pytest.mark.parametrize("option", ["lstrip", "rstrip", "single_word"])
def test_tokens_that_look_around_are_not_cut_at(option: str) -> None:
    tokenizer = byte_level(**{option: True})
    assert exactness.get_cutter(describe(tokenizer)) is None
    for text in ("a <x> b", "a<x>b", " <x> "):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokens_of(tokenizer).encode(text, False, 1) == ids


def test_a_step_that_minds_its_place_in_the_text_is_not_cut_for() -> None:
    tokenizer = Tokenizer(models.WordLevel({"▁a": 0, "a": 1, "?": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.add_special_tokens([AddedToken("<x>", special=True, normalized=False)])
    assert exactness.get_cutter(describe(tokenizer)) is None
    # The control: the piece alone is another token than the piece in its place.
    assert tokenizer.encode("<x>a", add_special_tokens=False).ids[1:] == [1]
    assert tokenizer.encode("a", add_special_tokens=False).ids == [0]
    assert tokens_of(tokenizer).encode("<x>a", False, 1)[1:] == [1]


def test_length_is_bounded_only_where_nothing_is_dropped() -> None:
    tokenizer = byte_level()
    bound = exactness.get_length_bound(describe(tokenizer))
    assert bound is not None and bound.dropped == ""
    assert bound.chars_per_token == len("<x><y>")
    tokenizer.normalizer = normalizers.NFC()
    composed = exactness.get_length_bound(describe(tokenizer))
    assert composed is not None and composed.chars_per_token == 4 * len("<x><y>")
    tokenizer.normalizer = normalizers.Replace(" ", "")
    assert exactness.get_length_bound(describe(tokenizer)) is None
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel()]
    )
    assert exactness.get_length_bound(describe(tokenizer)) is None


def test_a_vocabulary_without_continuation_bytes_has_no_bound() -> None:
    description = describe(byte_level())
    byte_0x80 = chr(0x122)  # GPT-2's stand-in for it
    del description["model"]["vocab"][byte_0x80]
    assert exactness.get_length_bound(description) is None
