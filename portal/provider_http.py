"""How we talk to identity providers, whose addresses tenants chose: bounded in every way.

The peer is looked at once the connection stands, before a byte is sent: a name that
was public when it was saved may resolve to a private address now. No redirects, no
proxies of the environment (a proxy would connect in our place), a limit on size and
on the whole time.
"""

from __future__ import annotations

import time
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NewConnectionError

from tenants import outbound

LARGEST_ANSWER = 1024 * 1024
WHOLE_ANSWER_S = 10.0
CONNECT_AND_READ_S = (3.0, 5.0)


class _OnlyPublic:
    def _new_conn(self) -> Any:
        connection = super()._new_conn()  # type: ignore[misc]
        peer = str(connection.getpeername()[0])
        if not outbound.allows_private() and not outbound.is_public(peer):
            connection.close()
            raise NewConnectionError(self, "its address is not public")  # type: ignore[arg-type]
        return connection


class _HTTPConnection(_OnlyPublic, HTTPConnection):
    pass


class _HTTPSConnection(_OnlyPublic, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class _PublicAdapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}


class ProviderSession(requests.Session):
    """A ``requests`` session that only reaches the public internet, and reads little."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False
        self.max_redirects = 0
        self.mount("https://", _PublicAdapter())
        self.mount("http://", _PublicAdapter())

    def request(self, method: str, url: str, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        if not url.startswith("https://") and not outbound.allows_private():
            raise requests.exceptions.InvalidSchema("Identity providers are reached by https.")
        kwargs |= {"stream": True, "timeout": CONNECT_AND_READ_S}
        response = super().request(method, url, **kwargs)
        response._content = _read(response)
        return response


def _read(response: requests.Response) -> bytes:
    deadline = time.monotonic() + WHOLE_ANSWER_S
    parts, size = [], 0
    for part in response.iter_content(16 * 1024):
        parts.append(part)
        size += len(part)
        if size > LARGEST_ANSWER or time.monotonic() > deadline:
            response.close()
            raise requests.exceptions.ContentDecodingError("The answer is too long or too slow.")
    return b"".join(parts)
