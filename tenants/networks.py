"""From where a key may be used: addresses and CIDR networks. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
MOST_NETWORKS = 100


def parse_network(text: str) -> Network:
    """``10.0.0.0/8``, ``2001:db8::/32`` or one address; ValueError for anything else.

    Host bits under the mask are an error: whoever wrote them meant something else.
    """
    return ipaddress.ip_network(text.strip())


@lru_cache(maxsize=4096)
def _parsed(networks: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(parse_network(text) for text in networks)


def is_within(address: str, networks: Iterable[str]) -> bool:
    """Whether ``address`` lies in one of the networks; an unreadable address does not.

    An IPv4 address that came over an IPv6 socket (``::ffff:a.b.c.d``) counts as itself.
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(
        found.version == network.version and found in network
        for network in _parsed(tuple(networks))
    )
