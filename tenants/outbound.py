"""Where we may be made to connect to: addresses that a tenant gave us must be public.

Else whoever can name a URL could read what only our own network may (server-side
request forgery). Outside production private addresses are allowed, because an
identity provider under development runs there.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from django.conf import settings

from tenants.errors import InvalidInput

LONGEST_URL = 500
_NAT64 = ip_network("64:ff9b::/96")


def allows_private() -> bool:
    return bool(settings.SLUICE_ENV != "production")


def is_public(address: str) -> bool:
    """Whether this is an address of the public internet, also behind its IPv6 disguises."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address):
        parsed = _embedded(parsed) or parsed
    return parsed.is_global and not parsed.is_multicast


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that a mapped, 6to4 or NAT64 address leads to."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def check_browser_url(url: str, *, param: str) -> str:
    """A URL that only browsers follow: https, a host, nothing hidden in it."""
    _parsed(url, param)
    return url


def check_server_url(url: str, *, param: str) -> str:
    """A URL that we fetch ourselves: every address of its host is public.

    The name may lead elsewhere later, so the connection is checked again when it is
    made (``portal.provider_http``).
    """
    parts = _parsed(url, param)
    if allows_private():
        return url
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_STREAM)
    except OSError as error:
        raise InvalidInput("This host cannot be found.", param=param) from error
    if not all(is_public(str(entry[4][0])) for entry in found):
        raise InvalidInput("This host is not on the public internet.", param=param)
    return url


def _parsed(url: str, param: str) -> SplitResult:
    if len(url) > LONGEST_URL or not url.isprintable() or " " in url:
        raise InvalidInput("This is no URL.", param=param)
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it is what checks it
    except ValueError as error:
        raise InvalidInput("This is no URL.", param=param) from error
    schemes = {"https", "http"} if allows_private() else {"https"}
    if parts.scheme not in schemes or not parts.hostname:
        raise InvalidInput("This must be an https:// URL.", param=param)
    if parts.username is not None or parts.fragment:
        raise InvalidInput("A URL without user name and fragment, please.", param=param)
    return parts
