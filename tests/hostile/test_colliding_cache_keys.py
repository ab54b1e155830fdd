"""A cache key cut from a prefix of the credential logged one user in as another; and in March
2023 one user's cached page was another's. What is remembered is found by the whole, and names
its owner.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference.response_cache import CachedAnswer, CachedChoice, ResponseCache, key_of
from inference.wire import Sampling
from portal.form_ids import new_key_form_id, read_key_form_id
from tenants import keys
from tenants.authentication import Authenticator
from tenants.errors import InvalidApiKey, InvalidInput
from tenants.identifiers import ALPHABET
from tenants.models import Organization, User
from tests.cast import Cast, build_cast

prompts = st.lists(st.lists(st.integers(0, 99), max_size=4), max_size=3)
requests = st.tuples(st.integers(1, 3), st.integers(1, 3), prompts, st.integers(1, 2))


@pytest.fixture
def committed(transactional_db: None) -> Cast:
    return build_cast()


async def test_a_key_that_begins_or_ends_like_a_known_one_is_not_it(committed: Cast) -> None:
    authenticator = Authenticator()
    right = committed.owner_key
    known = await authenticator.authenticate(b"Bearer " + right.encode())
    other = next(letter for letter in ALPHABET if letter not in (right[-1], right[30]))
    near = (
        right[:-1] + other,
        right[:30] + other + right[31:],
        right[: len("sk-proj-") + keys.LOOKUP_LENGTH] + "a" * keys.SECRET_LENGTH,
        right.lower(),
        right + "a",
        right[:-1],
        right.replace("sk-proj-", "sk-svcacct-"),
        right.replace("sk-proj-", "sk-admin-"),
    )
    for text in near:
        for _ in range(2):  # refused, and refused from memory
            with pytest.raises(InvalidApiKey):
                await authenticator.authenticate(b"Bearer " + text.encode())

    assert await authenticator.authenticate(b"Bearer " + right.encode()) is known
    stranger = await authenticator.authenticate(b"Bearer " + committed.stranger_key.encode())
    assert stranger.organization == committed.other_organization.pk


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(requests, requests)
def test_two_requests_share_an_answer_only_if_they_are_one(first: tuple, second: tuple) -> None:
    """Whatever joins the parts of the key: [[1], [2]] is not [[1, 2]], 1 then 12 not 11 then 2."""
    sampling = Sampling(max_tokens=4, temperature=0.0)
    keys_of = [key_of(o, v, p, sampling, n) for o, v, p, n in (first, second)]

    assert (keys_of[0] == keys_of[1]) == (first == second)


async def test_a_foreign_answer_under_the_right_key_is_a_miss(link: object) -> None:
    """The key collided, or a connection answered somebody else's question."""
    cache = ResponseCache(link)  # type: ignore[arg-type]
    answer = CachedAnswer(1, "req-1", 0.0, [CachedChoice("theirs", 1, "stop")])
    await cache.put("answer:shared", answer, 60)

    assert await cache.get("answer:shared", 2) is None
    assert await cache.get("answer:shared", 1) == answer


def test_a_forms_id_is_of_one_person_in_one_organization() -> None:
    """Ids that run together: user 1 in org_12 is not user 11 in org_2."""
    people = [(User(pk=1), Organization(public_id="12")), (User(pk=11), Organization(public_id="2")),
              (User(pk=1), Organization(public_id="1.2")), (User(pk=11), Organization(public_id=".2"))]  # fmt: skip
    for user, organization in people:
        form_id = new_key_form_id(user, organization)
        assert read_key_form_id(form_id, user, organization).startswith("key_")
        for other in people:
            if other != (user, organization):
                with pytest.raises(InvalidInput):
                    read_key_form_id(form_id, *other)
