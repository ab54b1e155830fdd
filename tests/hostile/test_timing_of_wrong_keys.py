"""Timing: how long a refusal takes must not tell how much of a key was right.

The digest is over the whole text, so that two keys which differ in one letter have digests
that share nothing; the comparison is constant in time; and what is done for a wrong secret is
what is done for a wrong look-up part.
"""

from __future__ import annotations

import random
import statistics
import time
from unittest import mock

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tenants import keys, principals
from tenants.identifiers import ALPHABET
from tenants.models import ApiKey
from tenants.principals import get_principal, is_right
from tests.cast import Cast, build_cast

ROUNDS = 40
CALLS = 300


@pytest.fixture
def committed(transactional_db: None) -> Cast:
    return build_cast()


def changed(text: str, position: int) -> str:
    other = ALPHABET[(ALPHABET.index(text[position]) + 1) % len(ALPHABET)]
    return text[:position] + other + text[position + 1 :]


def test_digests_of_nearly_equal_keys_share_nothing() -> None:
    """So that even a comparison that leaks tells nothing that leads anywhere."""
    text = keys.new_secret("p").text
    right = keys.digest(text, "p")
    shared = []
    for position in range(len("sk-proj-"), len(text)):
        wrong = keys.digest(changed(text, position), "p")
        shared.append(sum(a == b for a, b in zip(right, wrong, strict=True)))

    assert max(shared) < 8 and statistics.mean(shared) < 1


def test_the_comparison_is_pythons_constant_one_in_every_case() -> None:
    text = keys.new_secret("p")
    row = ApiKey(lookup=text.lookup, secret_hmac=text.digest)
    rotated = ApiKey(lookup="other", secret_hmac=b"x" * 32, previous_lookup=text.lookup,
                     previous_secret_hmac=text.digest)  # fmt: skip
    with mock.patch.object(
        principals.hmac, "compare_digest", wraps=principals.hmac.compare_digest
    ) as compare:
        for key in (row, rotated, None, ApiKey(lookup="other", secret_hmac=b"x" * 32)):
            is_right(key, text.lookup, text.digest)
    assert compare.call_count == 4
    assert all(len(call.args[0]) == len(call.args[1]) == 32 for call in compare.call_args_list)


def test_a_wrong_secret_and_a_wrong_lookup_do_the_same(committed: Cast) -> None:
    """One statement each: which part was wrong does not show in what is asked."""
    right = committed.owner_key
    start = len("sk-proj-")
    done = []
    for position in (start, start + 5, start + keys.LOOKUP_LENGTH, len(right) - 1):
        text = changed(right, position)
        digest = keys.digest(text, settings.API_KEY_PEPPER)
        with CaptureQueriesContext(connection) as statements:
            assert get_principal(keys.lookup_of(text) or "", digest) is None
        asked = [query["sql"].replace(keys.lookup_of(text) or "", "…") for query in statements]
        done.append([sql for sql in asked if "tenants_" in sql])

    assert all(len(each) == 1 for each in done)
    assert len({each[0] for each in done}) == 1


def test_the_time_of_a_comparison_does_not_follow_how_much_was_right() -> None:
    """Medians of interleaved runs: a byte-wise comparison would differ by a third and more."""
    digest = keys.digest("a key", "pepper")
    row = ApiKey(lookup="lookup000000", secret_hmac=digest)
    wrong_first = bytes([digest[0] ^ 1]) + digest[1:]
    wrong_last = digest[:-1] + bytes([digest[-1] ^ 1])
    times: dict[bytes, list[int]] = {wrong_first: [], wrong_last: []}
    for _ in range(ROUNDS):
        for presented in random.sample(list(times), 2):
            started = time.thread_time_ns()
            for _ in range(CALLS):
                is_right(row, "lookup000000", presented)
            times[presented].append(time.thread_time_ns() - started)
    first, last = (statistics.median(values) for values in times.values())

    assert abs(first - last) / min(first, last) < 0.15
