"""Which address a request came from, believing only the proxies that are ours.

``X-Forwarded-For`` is a list that each hop appends to, so only its right end was
written by a proxy of ours; everything left of the first stranger is hearsay.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


@lru_cache(maxsize=8)
def parse_proxies(names: tuple[str, ...]) -> tuple[Network, ...]:
    """``TRUSTED_PROXIES`` as networks; ValueError names one that is malformed."""
    return tuple(ip_network(name, strict=False) for name in names)


def is_trusted(address: str, proxies: Iterable[Network]) -> bool:
    parsed = _parse(address)
    return parsed is not None and any(parsed in network for network in proxies)


def client_address(remote: str, forwarded_for: str, proxies: Iterable[Network]) -> str | None:
    """The nearest address that is not a trusted proxy; None when nothing names one."""
    proxies = tuple(proxies)
    client = _parse(remote)
    if client is None:
        return None
    for hop in reversed(forwarded_for.split(",")):
        if not any(client in network for network in proxies):
            break
        parsed = _parse(hop.strip())
        if parsed is None:
            break
        client = parsed
    return str(client)


def rate_limit_group(address: str | None) -> str:
    """What shares one limit: an IPv4 address, or the /64 that one IPv6 client owns."""
    parsed = _parse(address or "")
    if parsed is None:
        return "unknown"
    if isinstance(parsed, IPv6Address):
        return str(ip_network(f"{parsed}/64", strict=False))
    return str(parsed)


def _parse(text: str) -> Address | None:
    try:
        parsed = ip_address(text)
    except ValueError:
        return None
    # A dual-stack socket shows IPv4 clients as ::ffff:a.b.c.d.
    return getattr(parsed, "ipv4_mapped", None) or parsed
