"""URLs as tenants save them: https, a host, and nothing hidden in them."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from django.conf import settings

from tenants.errors import InvalidInput
from tenants.outbound.resolving import Refused, resolve

LONGEST_URL = 500
# urllib, browsers and urllib3 read these differently; no address needs them.
_AMBIGUOUS = frozenset('\\ <>"{}|^`')


def check_browser_url(url: str, *, param: str) -> str:
    """A URL that only browsers follow. By http only where private networks are in use."""
    _parsed(url, param, allows_http=bool(settings.OUTBOUND_PRIVATE_NETWORKS))
    return url


def check_server_url(url: str, *, param: str) -> str:
    """A URL that we call ourselves: each address of its host, and its port, is allowed.

    The name may lead elsewhere later, so ``OutboundSession`` asks again whenever it connects.
    """
    parts = _parsed(url, param, allows_http=True)
    is_tls = parts.scheme == "https"
    if not is_tls and not settings.OUTBOUND_PRIVATE_NETWORKS and not _allows_plain():
        raise InvalidInput("This must be an https:// URL.", param=param)
    try:
        resolve(str(parts.hostname), parts.port or (443 if is_tls else 80), is_tls=is_tls)
    except Refused as error:
        raise InvalidInput(str(error), param=param) from error
    return url


def _allows_plain() -> bool:
    return any(str(port) == "80" for port in settings.OUTBOUND_PORTS)


def _parsed(url: str, param: str, *, allows_http: bool) -> SplitResult:
    if len(url) > LONGEST_URL or not url.isprintable() or _AMBIGUOUS & set(url):
        raise InvalidInput("This is no URL.", param=param)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidInput("This is no URL.", param=param) from error
    schemes = {"https", "http"} if allows_http else {"https"}
    if parts.scheme not in schemes or not parts.hostname or port == 0:
        raise InvalidInput("This must be an https:// URL.", param=param)
    if "@" in parts.netloc or parts.fragment:
        raise InvalidInput("A URL without user name and fragment, please.", param=param)
    return parts
