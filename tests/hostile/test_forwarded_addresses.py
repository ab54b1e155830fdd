"""X-Forwarded-For, made up: an allow-list of addresses is as good as who may say the address.

(The product class's own bypass: the first entry of the header was believed.)
"""

from __future__ import annotations

import pytest

from api.http import client_address_of
from tests.api.test_key_terms_live import make_keys
from tests.harness.platform import Platform
from tests.hostile.raw import CHAT, bearer, get, post

NAMES = (
    b"X-Forwarded-For", b"Forwarded", b"X-Real-IP", b"X-Client-IP", b"CF-Connecting-IP",
    b"True-Client-IP", b"X-Cluster-Client-IP", b"X-Originating-IP",
)  # fmt: skip


def scope(client: str | None, *forwarded: bytes) -> dict:
    return {
        "client": (client, 1) if client else None,
        "headers": [(b"x-forwarded-for", value) for value in forwarded],
    }


@pytest.mark.parametrize(
    ("proxies", "client", "forwarded", "expected"),
    [
        ([], "203.0.113.9", [b"10.0.0.1"], "203.0.113.9"),
        (["192.0.2.0/24"], "203.0.113.9", [b"10.0.0.1"], "203.0.113.9"),
        (["192.0.2.0/24"], "192.0.2.1", [b"10.0.0.1"], "10.0.0.1"),
        # The client wrote the first; our proxy appended what it saw.
        (["192.0.2.0/24"], "192.0.2.1", [b"10.0.0.1, 203.0.113.9"], "203.0.113.9"),
        (["192.0.2.0/24"], "192.0.2.1", [b"10.0.0.1", b"203.0.113.9"], "203.0.113.9"),
        (["192.0.2.0/24"], "192.0.2.1", [b"10.0.0.1, 203.0.113.9, 192.0.2.7"], "203.0.113.9"),
        (["192.0.2.0/24"], "192.0.2.1", [b"10.0.0.1, garbage"], "192.0.2.1"),
        (["192.0.2.0/24"], "192.0.2.1", [b""], "192.0.2.1"),
        (["192.0.2.0/24"], "192.0.2.1", [], "192.0.2.1"),
        (["192.0.2.0/24"], "::ffff:192.0.2.1", [b"10.0.0.1"], "10.0.0.1"),
        (["192.0.2.0/24"], None, [b"10.0.0.1"], None),
        (["192.0.2.0/24"], "192.0.2.1", [b"\xff\xfe"], "192.0.2.1"),
        (["192.0.2.0/24"], "192.0.2.1", [b"10.0.0.1:443"], "192.0.2.1"),
    ],
)
def test_only_what_a_trusted_proxy_wrote_is_believed(
    settings: object, proxies: list[str], client: str | None, forwarded: list[bytes], expected: str
) -> None:
    settings.TRUSTED_PROXIES = proxies  # type: ignore[attr-defined]

    assert client_address_of(scope(client, *forwarded)) == expected


def test_no_header_of_a_client_gets_past_an_allow_list(simulated: Platform) -> None:
    """The platform has no trusted proxy, and the client comes from loopback."""
    made = make_keys(
        simulated,
        {
            "from far": {"allowed_networks": ["203.0.113.0/24"]},
            "from here": {"allowed_networks": ["127.0.0.0/8", "::1"]},
        },
    )
    for name in NAMES:
        for value in (b"203.0.113.9", b"for=203.0.113.9", b"203.0.113.9, 127.0.0.1"):
            header = name + b": " + value
            for answer in (
                post(simulated, CHAT, bearer(made["from far"]), header),
                get(simulated, "/v1/models", bearer(made["from far"]), header),
            ):
                assert (answer.status, answer.error["code"]) == (403, "ip_not_authorized")
            assert post(simulated, CHAT, bearer(made["from here"]), header).status == 200
