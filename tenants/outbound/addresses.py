"""Which addresses belong to the public internet. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from tenants.networks import is_within

# What ``ipaddress`` calls global and is not a host of somebody else's: multicast and the
# unique-local and site-local blocks it knows; these it does not.
_MORE_PRIVATE = tuple(
    ip_network(network)
    for network in (
        "192.88.99.0/24",  # relays of 6to4, which RFC 7526 took out of use
        "2002::/16",  # 6to4: leads to any IPv4 address
        "2001::/32",  # Teredo: the same
        "fec0::/10",  # site-local (RFC 3879)
        "5f00::/16",  # segment routing (RFC 9602)
        "3fff::/20",  # documentation (RFC 9637)
    )
)
# Prefixes whose last 32 bits are an IPv4 address: NAT64 (RFC 6052), and the addresses
# "compatible" with IPv4 (RFC 4291 2.5.5.1).
_LAST_32_BITS = (ip_network("64:ff9b::/96"), ip_network("::/96"))
# NAT64 of an operator's own (RFC 8215): nobody outside can say where the IPv4 address lies.
_LOCAL_NAT64 = ip_network("64:ff9b:1::/48")
# Where clouds answer machines of theirs with credentials; two of these look public. Refused
# even inside of OUTBOUND_PRIVATE_NETWORKS: no receiver of a tenant's lives there.
METADATA = frozenset(
    ip_address(address)
    for address in (
        "169.254.169.254",  # AWS, Azure, Google, OpenStack
        "169.254.170.2",  # AWS ECS
        "169.254.170.23",  # AWS EKS
        "fd00:ec2::254",  # AWS over IPv6
        "fd00:ec2::23",
        "fd20:ce::254",  # Google over IPv6
        "168.63.129.16",  # Azure's platform
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
    )
)


def is_public(address: str, also: Iterable[str] = ()) -> bool:
    """Whether we may connect to it, also behind an IPv6 disguise. ``also`` are networks
    that count as public although they are private."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address):
        if parsed.scope_id is not None or parsed in _LOCAL_NAT64:
            return False
        if (embedded := _embedded(parsed)) is not None:
            return is_public(str(embedded), also)
    if parsed in METADATA:
        return False
    return _is_global(parsed) or is_within(str(parsed), also)


def _is_global(address: IPv4Address | IPv6Address) -> bool:
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not any(address in network for network in _MORE_PRIVATE)
    )


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that a mapped, compatible or NAT64 address leads to."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    is_written_v6 = address in (IPv6Address("::"), IPv6Address("::1"))
    if not is_written_v6 and any(address in network for network in _LAST_32_BITS):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None
