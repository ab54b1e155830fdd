"""From where a key may be used: held to Python's own arithmetic, and to its known traps."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tenants.networks import is_within, parse_network

v4 = st.ip_addresses(v=4)
v6 = st.ip_addresses(v=6)
any_network = st.one_of(st.tuples(v4, st.integers(0, 32)), st.tuples(v6, st.integers(0, 128))).map(
    lambda pair: ipaddress.ip_network(pair, strict=False)
)


@given(any_network)
def test_a_network_reads_as_it_is_written(network: object) -> None:
    assert parse_network(str(network)) == network
    assert parse_network(f"  {network}\n") == network


@given(st.text(max_size=40))
@example("")
@example("10.0.0.1/8")  # host bits under the mask
@example("10.0.0.0/33")
@example("10.0.0.0/-1")
@example("010.0.0.0/8")  # octal to some, decimal to others
@example("10.0.0")
@example("0x7f.0.0.1")
@example("١٠.0.0.0/8")  # digits to str.isdigit
@example("fe80::1%eth0/64")
@example("10.0.0.0/255.0.0.0/8")
def test_anything_else_is_refused_and_never_a_crash(text: str) -> None:
    try:
        network = parse_network(text)
    except ValueError:
        return
    assert network.network_address == ipaddress.ip_address(text.strip().partition("/")[0])


@given(st.one_of(v4, v6), st.lists(any_network, max_size=5))
def test_an_address_is_within_exactly_what_holds_it(address: object, networks: list) -> None:
    mapped = getattr(address, "ipv4_mapped", None)
    plain = mapped or address
    expected = any(plain in each for each in networks if each.version == plain.version)

    assert is_within(str(address), tuple(map(str, networks))) == expected


@given(v4, any_network)
def test_an_ipv4_address_over_an_ipv6_socket_is_itself(address: object, network: object) -> None:
    texts = (str(network),)

    assert is_within(f"::ffff:{address}", texts) == is_within(str(address), texts)


@given(v6, st.integers(0, 128))
def test_the_interface_of_a_link_local_address_does_not_matter(address: object, bits: int) -> None:
    network = ipaddress.ip_network((address, bits), strict=False)

    assert is_within(f"{address}%eth0", (str(network),)) == is_within(str(address), (str(network),))


@pytest.mark.parametrize(
    "address",
    ["", "localhost", "10.0.0.1, 203.0.113.9", "10.0.0.1:443", "[::1]", "1", "0x0a000001", "\0",
     "10.0.0.1\n", "010.0.0.1", "١٠.0.0.1", "x" * 10_000],
)  # fmt: skip
def test_what_is_no_address_lies_nowhere(address: str) -> None:
    assert not is_within(address, ("0.0.0.0/0", "::/0"))


@given(st.text(max_size=30))
def test_no_text_is_a_crash(address: str) -> None:
    is_within(address, ("10.0.0.0/8", "2001:db8::/32"))


def test_without_networks_nothing_is_within() -> None:
    assert not is_within("10.0.0.1", ())


def test_all_of_ipv4_is_not_all_of_ipv6() -> None:
    assert not is_within("2001:db8::1", ("0.0.0.0/0",))
    assert not is_within("10.0.0.1", ("::/0",))
    # A mapped network names IPv6 addresses that no client ever has.
    assert not is_within("10.0.0.1", ("::ffff:10.0.0.0/104",))
