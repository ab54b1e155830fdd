"""Text to token ids and back, with the model's own tokenizer.

A chat grows by appending, so its text is cut at special tokens and the pieces
are cached: of the next turn only the new pieces are tokenized. ``exactness``
says for which tokenizers that is the same; any other gets the text whole.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from tokenizers import Tokenizer

from inference.errors import InvalidRequest, StoreError
from inference.prompts import exactness
from inference.prompts.cache import TokenCache
from inference.prompts.folder import PromptFiles

# A text's head is counted before the rest once it is this many times the limit:
# beyond the characters that ordinary text has to a token.
PROBE_FACTOR = 8


class Tokens:
    """One model's tokenizer and its cache; safe to use from several threads."""

    def __init__(self, files: PromptFiles, cache: TokenCache | None = None):
        self._tokenizer = _load(files)
        self.cache = cache or TokenCache()
        description = json.loads(files.tokenizer_json)
        self._special_ids = exactness.cutting_tokens(description)
        self._cutter = exactness.get_cutter(description)
        self._cuts_at_space = exactness.cuts_at_space(description)
        self._bound = exactness.get_length_bound(description)
        self.vocab_size = self._tokenizer.get_vocab_size()
        self.special_before, self.special_after = self._find_specials()

    def encode(self, text: str, add_special_tokens: bool, scope: int) -> list[int]:
        """Exactly what transformers' tokenizer gives for ``text``."""
        if add_special_tokens or self._cutter is None:
            return self._encode(text, add_special_tokens)
        ids: list[int] = []
        pieces = self._cutter.split(text)
        for index, piece in enumerate(pieces):
            if index % 2:
                ids.append(self._special_ids[piece])
            elif piece:
                ids.extend(self._encode_piece(piece, scope))
        return ids

    def count_uncached_chars(self, text: str, add_special_tokens: bool, scope: int) -> int:
        """How much of ``text`` would have to be tokenized now."""
        if add_special_tokens or self._cutter is None:
            return len(text)
        pieces = self._cutter.split(text)[::2]
        return sum(len(piece) for piece in pieces if self.cache.get((scope, piece)) is None)

    def is_certainly_longer(self, text: str, limit_tokens: int) -> bool:
        """Whether ``text`` has more tokens than the limit, found out at little cost.

        False when only tokenizing it would tell.
        """
        if self._bound is not None:
            return self._bound.min_tokens(text) > limit_tokens
        head_chars = limit_tokens * PROBE_FACTOR
        if not self._cuts_at_space or len(text) <= 2 * head_chars:
            return False
        end = text.rfind(" ", 0, head_chars)
        return end > 0 and len(self._encode(text[:end], False)) > limit_tokens

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)

    def _find_specials(self) -> tuple[int, int]:
        """How many special tokens are put before and after a text."""
        plain, whole = self._encode(" a", False), self._encode(" a", True)
        for before in range(len(whole) - len(plain) + 1):
            if plain and whole[before : before + len(plain)] == plain:
                return before, len(whole) - len(plain) - before
        return 0, 0

    def encode_pair(self, first: str, second: str) -> tuple[list[int], int]:
        """Both with the special tokens between them, and where the second begins as its model
        is told (0: it is not told)."""
        encoded = self._tokenizer.encode(first, second)
        types: list[int] = encoded.type_ids
        return encoded.ids, types.index(1) if 1 in types else 0

    def head(self, text: str, most: int) -> str:
        """As much of a text as its first tokens stand for."""
        encoded = self._tokenizer.encode(text, add_special_tokens=False)
        return text if len(encoded.ids) <= most else text[: encoded.offsets[most - 1][1]]

    def names(self, ids: Sequence[int]) -> list[str | None]:
        """What the vocabulary calls each: of a byte-level one not the text that it stands for."""
        return [self._tokenizer.id_to_token(token_id) for token_id in ids]

    def _encode_piece(self, piece: str, scope: int) -> Sequence[int]:
        key = (scope, piece)
        ids = self.cache.get(key)
        if ids is None:
            ids = tuple(self._encode(piece, False))
            self.cache.put(key, ids)
        return ids

    def _encode(self, text: str, add_special_tokens: bool) -> list[int]:
        try:
            # The batch call gives up the GIL, and "fast" leaves out offsets nobody reads.
            encoded = self._tokenizer.encode_batch_fast(
                [text], add_special_tokens=add_special_tokens
            )
        except (TypeError, UnicodeEncodeError) as error:
            raise InvalidRequest("The text is not valid Unicode.") from error
        ids: list[int] = encoded[0].ids
        return ids


def _load(files: PromptFiles) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_str(files.tokenizer_json)
    except Exception as error:
        # The library knows no narrower type for a malformed file than Exception itself.
        if type(error) is not Exception:
            raise
        raise StoreError(f"tokenizer.json cannot be read: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
