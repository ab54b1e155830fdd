"""From a host's name to the addresses that we may connect to, or a refusal."""

from __future__ import annotations

import re
import socket
import threading
from ipaddress import ip_address
from queue import Empty, SimpleQueue

from django.conf import settings

from tenants.networks import is_within
from tenants.outbound.addresses import is_public

# The system's resolver takes no time limit of ours; it waits 5 s for each of its servers.
RESOLVE_S = 5.0
# Look-ups that hang in it at once; a thread each.
MOST_LOOKUPS = 32
_lookups = threading.BoundedSemaphore(MOST_LOOKUPS)
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*\.?")
# What the system would read as IPv4 in other notations: 2130706433, 0x7f.1, 127.1, 0177.0.0.1.
_ENDS_IN_A_NUMBER = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)\.?")


class Refused(OSError):
    """We do not connect there; the text says why and is fit for the tenant's eyes."""


class NotFound(Refused):
    """The name leads nowhere, or nobody says in time where."""


def resolve(host: str, port: int, *, is_tls: bool, timeout_s: float = RESOLVE_S) -> list[str]:
    """The addresses of ``host``, every one of which may be connected to; raises Refused.

    One that may not refuses them all: who mixes a private address among public ones would
    get there sooner or later.
    """
    found = _addresses_of(host.lower(), port, timeout_s)
    networks = settings.OUTBOUND_PRIVATE_NETWORKS
    if not all(is_public(address, networks) for address in found):
        raise Refused("This host is not on the public internet.")
    if not all(is_within(address, networks) for address in found):
        _check_port(port, is_tls)
    return found


def _check_port(port: int, is_tls: bool) -> None:
    """Of the public internet; what an operator vouches for may listen anywhere."""
    allowed = [str(number) for number in settings.OUTBOUND_PORTS]
    if str(port) not in allowed:
        raise Refused(f"Port {port} is not allowed; only {', '.join(allowed)}.")
    if not is_tls and port != 80:
        raise Refused("Only https:// leads there.")


def _addresses_of(host: str, port: int, timeout_s: float) -> list[str]:
    literal = host.removeprefix("[").removesuffix("]")
    try:
        return [str(ip_address(literal))]
    except ValueError:
        pass
    if not _HOST.fullmatch(host) or _ENDS_IN_A_NUMBER.fullmatch(host):
        raise Refused("This is no host name. Names in other scripts are written as xn--….")
    return _look_up(host, port, timeout_s)


def ask_system(host: str, port: int) -> list[str]:
    """What the system's resolver says; blocks for as long as that takes."""
    entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in entries))


def _look_up(host: str, port: int, timeout_s: float) -> list[str]:
    places = _lookups
    if not places.acquire(blocking=False):
        raise NotFound("Too many names are being looked up. Try again.")
    answers: SimpleQueue[list[str] | OSError] = SimpleQueue()

    def look_up() -> None:
        try:
            answers.put(ask_system(host, port))
        except (OSError, UnicodeError) as error:
            answers.put(OSError(str(error)))
        finally:
            places.release()

    threading.Thread(target=look_up, name="look-up", daemon=True).start()
    try:
        found = answers.get(timeout=timeout_s)
    except Empty:
        raise NotFound("This host's name was not resolved in time.") from None
    if isinstance(found, OSError) or not found:
        raise NotFound("This host cannot be found.")
    return found
