"""Which prompts begin alike, block by block: pure."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inference.prefixes import PrefixIndex, block_ends, chain

ids = st.lists(st.integers(0, 50_000), max_size=600)


def test_blocks_are_small_at_first_and_end_within_the_prompt() -> None:
    assert list(block_ends(15)) == []
    assert list(block_ends(48)) == [16, 32, 48]
    assert list(block_ends(260)) == [16, 32, 48, 64, 80, 96, 112, 128, 192, 256]
    assert list(block_ends(1_000))[10:] == [384, 512, 768]
    assert list(block_ends(1_000_000))[-2:] == [1_536, 2_048]


@given(ids, ids, ids)
def test_two_prompts_share_blocks_exactly_as_far_as_they_begin_alike(
    common: list[int], one: list[int], other: list[int]
) -> None:
    first, second = chain(1, 1, common + one), chain(1, 1, common + other)
    alike = 0
    for left, right in zip(common + one, common + other, strict=False):
        if left != right:
            break
        alike += 1
    shared = [
        tokens for (tokens, left), (_, right) in zip(first, second, strict=False) if left == right
    ]
    assert shared == [
        end for end in block_ends(min(len(common + one), len(common + other))) if end <= alike
    ]


def test_organizations_and_versions_share_nothing() -> None:
    prompt = list(range(64))
    index = PrefixIndex()
    index.remember(chain(1, 1, prompt), "chat-1")

    assert index.find(chain(1, 1, prompt)) == ("chat-1", 64)
    assert index.find(chain(2, 1, prompt)) == index.find(chain(1, 2, prompt)) == ("", 0)


def test_the_longest_beginning_wins() -> None:
    index, system = PrefixIndex(), list(range(32))
    index.remember(chain(1, 1, [*system, *[7] * 64]), "long")
    index.remember(chain(1, 1, system), "short")

    assert index.find(chain(1, 1, [*system, *[7] * 40])) == ("long", 64)
    assert index.find(chain(1, 1, [*system, *[8] * 40])) == ("short", 32)
    assert index.find(chain(1, 1, [9, *system])) == ("", 0)


def test_it_is_bounded_and_forgets_what_nobody_asks_for() -> None:
    index = PrefixIndex(blocks_kept=100)
    kept = chain(1, 1, [5] * 16)
    for number in range(1_000):
        if number % 20 == 0:
            index.remember(kept, "kept")
        index.remember(chain(1, 1, [number] * 16), "chat-1")
        assert len(index) <= 200

    assert index.find(kept) == ("kept", 16)
    assert index.find(chain(1, 1, [0] * 16)) == ("", 0)
