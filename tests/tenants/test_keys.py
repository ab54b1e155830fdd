"""API key secrets: their form, their look-up part, and what is stored of them."""

from __future__ import annotations

import hashlib
import hmac
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tenants import keys
from tenants.identifiers import ALPHABET
from tenants.models import ApiKey

PEPPER = "a pepper of these tests"
WELL_FORMED = re.compile(r"sk-(proj|svcacct|admin)-[0-9A-Za-z]{52}\Z", re.ASCII)
key_texts = st.builds(
    str.__add__,
    st.sampled_from(sorted(keys.PREFIXES.values())),
    st.text(ALPHABET, min_size=52, max_size=52),
)


def test_every_kind_of_key_has_a_prefix_of_its_own() -> None:
    assert set(keys.PREFIXES) == set(ApiKey.Kind.values)
    prefixes = list(keys.PREFIXES.values())
    # None begins another, so that a scanner reads the kind off the text.
    assert not any(a != b and a.startswith(b) for a in prefixes for b in prefixes)


@pytest.mark.parametrize("kind", sorted(keys.PREFIXES))
def test_a_new_secret_has_the_documented_form_and_finds_itself(kind: str) -> None:
    secret = keys.new_secret(PEPPER, kind)
    prefix = keys.PREFIXES[kind]

    assert WELL_FORMED.match(secret.text) and secret.text.startswith(prefix)
    assert len(secret.text) <= keys.LONGEST
    assert keys.lookup_of(secret.text) == secret.lookup == secret.text[len(prefix) :][:12]
    assert secret.last_four == secret.text[-4:]


@given(key_texts)
def test_one_lookup_under_two_prefixes_is_two_keys(text: str) -> None:
    """Whoever changes a key's prefix finds its row, and has the wrong secret for it."""
    body = text[-52:]
    texts = [prefix + body for prefix in keys.PREFIXES.values()]

    assert len({keys.digest(each, PEPPER) for each in texts}) == len(texts)


def test_what_is_stored_is_the_hmac_and_not_the_text() -> None:
    secret = keys.new_secret(PEPPER)

    assert secret.digest == hmac.digest(PEPPER.encode(), secret.text.encode(), hashlib.sha256)
    assert secret.text.encode() not in secret.digest


def test_no_two_secrets_share_a_lookup_or_a_digest() -> None:
    secrets = [keys.new_secret(PEPPER) for _ in range(500)]

    assert len({secret.lookup for secret in secrets}) == 500
    assert len({secret.digest for secret in secrets}) == 500


def test_another_pepper_makes_another_digest() -> None:
    text = keys.new_secret(PEPPER).text

    assert keys.digest(text, PEPPER) != keys.digest(text, PEPPER + "!")


@given(st.text())
@example("sk-proj-" + "é" * 52)  # as long, but two bytes a letter
@example("sk-proj-" + "٣" * 52)  # digits to str.isdigit, not to us
@example("sk-proj-" + "a" * 51 + "\n")
@example("SK-PROJ-" + "a" * 52)
@example("sk-admin-" + "a" * 52)
@example("sk-svcacct-" + "a" * 52)
@example("sk-admin" + "a" * 52)
@example("sk-proj-sk-proj-" + "a" * 52)
@example("sk-" + "a" * 52)
@example("a" * 52)
@example("sk-proj-" + "a" * 53)
@example("sk-proj-a'; DROP TABLE tenants_apikey; --".ljust(60, "a"))
def test_only_a_well_formed_key_has_a_lookup(text: str) -> None:
    assert (keys.lookup_of(text) is not None) == bool(WELL_FORMED.match(text))


@given(key_texts, st.integers(0, 59), st.sampled_from("\0 _%'\"\\;é"))
def test_one_wrong_character_anywhere_makes_a_key_malformed(
    text: str, position: int, wrong: str
) -> None:
    if text[position] != wrong:
        assert keys.lookup_of(text[:position] + wrong + text[position + 1 :]) is None


@given(key_texts, key_texts)
def test_two_keys_have_one_digest_only_if_they_are_one_key(first: str, second: str) -> None:
    assert (keys.digest(first, PEPPER) == keys.digest(second, PEPPER)) == (first == second)
