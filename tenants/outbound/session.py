"""How we call addresses that tenants chose: bounded in every way.

The name is resolved once, every address is looked at, and the connection goes to one of
those: a name that was public a moment ago and is private now leads nowhere. TLS is
verified with the name. No redirect is followed, no proxy of the environment is used (it
would connect in our place), and size and the whole time have limits, whatever the other
side does: a socket that is still open at the deadline is shut.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NewConnectionError

from tenants.outbound.resolving import RESOLVE_S, Refused, resolve

CONNECT_S = 3.0
READ_S = 5.0
WHOLE_ANSWER_S = 10.0
LARGEST_ANSWER = 1024 * 1024
_CHUNK = 16 * 1024


class _Deadline:
    """Shuts the connections of one call at a moment; what waits for them gets an error."""

    def __init__(self, seconds: float) -> None:
        self.at = time.monotonic() + seconds
        self.is_over = False
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._timer.start()

    def watch(self, sock: socket.socket) -> None:
        """A duplicate: TLS detaches the socket that it wraps, and a shutdown reaches both."""
        with self._lock:
            self._sockets.append(sock.dup())
        if self.is_over:
            self._end()

    def close(self) -> None:
        self._timer.cancel()
        with self._lock:
            for sock in self._sockets:
                sock.close()
            self._sockets.clear()

    def _end(self) -> None:
        self.is_over = True
        with self._lock:
            for sock in self._sockets:
                with suppress(OSError):  # the other side was faster
                    sock.shutdown(socket.SHUT_RDWR)


_deadline: ContextVar[_Deadline | None] = ContextVar("outbound_deadline", default=None)


class _Pinned:
    """Connects to an address that was just looked at, and to no other."""

    def _new_conn(self: Any) -> socket.socket:
        deadline = _deadline.get()
        is_tls = isinstance(self, HTTPSConnection)
        try:
            patience_s = _within(RESOLVE_S, deadline)
            addresses = resolve(self.host, self.port, is_tls=is_tls, timeout_s=patience_s)
        except Refused as error:
            raise NewConnectionError(self, str(error)) from error
        failure: OSError | None = None
        for address in addresses:
            try:
                sock = _connected(address, self.port, _within(CONNECT_S, deadline))
            except OSError as error:
                failure = error
                continue
            sock.settimeout(self.timeout if isinstance(self.timeout, float) else READ_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if deadline is not None:
                deadline.watch(sock)
            return sock
        raise NewConnectionError(self, f"No connection: {_reason(failure)}.")


def _within(seconds: float, deadline: _Deadline | None) -> float:
    """So long, or what is left of the whole time."""
    left_s = seconds if deadline is None else deadline.at - time.monotonic()
    return max(0.001, min(seconds, left_s))


def _connected(address: str, port: int, timeout_s: float) -> socket.socket:
    """Not ``socket.create_connection``, which would ask the resolver once more."""
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        sock.settimeout(timeout_s)
        sock.connect((address, port))
    except BaseException:
        sock.close()
        raise
    return sock


def _reason(error: OSError | None) -> str:
    """Without the address: what a name resolves to inside is nobody's business."""
    if isinstance(error, TimeoutError):
        return "timed out"
    return (error.strerror or "failed").lower() if error is not None else "no address"


class _HTTPConnection(_Pinned, HTTPConnection):
    pass


class _HTTPSConnection(_Pinned, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class _PinnedAdapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}


class OutboundSession(requests.Session):
    """A ``requests`` session that reaches public addresses only, and reads little.

    Of an answer of more than ``largest`` bytes it raises ContentDecodingError, or with
    ``cuts`` keeps the beginning. What is refused is a ConnectionError.
    """

    def __init__(
        self, *, whole_s: float = WHOLE_ANSWER_S, largest: int = LARGEST_ANSWER, cuts: bool = False
    ) -> None:
        super().__init__()
        self.trust_env = False
        self._whole_s = whole_s
        self._largest = largest
        self._cuts = cuts
        for scheme in ("https://", "http://"):
            self.mount(scheme, _PinnedAdapter())

    def request(self, method: str, url: str, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        kwargs |= {"stream": True, "timeout": (CONNECT_S, READ_S)}
        with _bounded(self._whole_s) as deadline:
            try:
                response = super().request(method, url, **kwargs)
                if response.is_redirect and kwargs.get("allow_redirects", True):
                    response.close()
                    raise requests.TooManyRedirects("No redirects are followed.")
                response._content = self._read(response)
                if deadline.is_over:  # to an answer without a length its end is an end
                    raise requests.ConnectionError("cut off")
            except requests.RequestException as error:
                if deadline.is_over:
                    raise requests.Timeout(f"No answer within {self._whole_s:g} s.") from error
                raise
            finally:
                self.close()  # a connection kept alive would escape the next call's deadline
        return response

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None, so that ``requests`` follows none, nor reads their bodies to the end."""

    def _read(self, response: requests.Response) -> bytes:
        parts, size = [], 0
        for part in response.iter_content(min(_CHUNK, self._largest)):
            parts.append(part)
            size += len(part)
            if size >= self._largest and self._cuts:
                break
            if size > self._largest:
                response.close()
                raise requests.exceptions.ContentDecodingError("The answer is too long.")
        response.close()
        return b"".join(parts)[: self._largest]


def reason_of(error: requests.RequestException) -> str:
    """Why there is no answer, in words for the tenant whose address it is."""
    cause: Any = error.args[0] if error.args else error
    cause = getattr(cause, "reason", cause)  # of urllib3's MaxRetryError
    if isinstance(error, requests.exceptions.SSLError):
        return f"TLS failed: {getattr(cause.args[-1], 'verify_message', '') or 'no handshake'}."
    if isinstance(cause, NewConnectionError):
        return str(cause).partition("): ")[2]
    if isinstance(error, requests.Timeout):
        return str(cause) if "within" in str(cause) else "No answer in time."
    return "The connection broke off before an answer came."


@contextmanager
def _bounded(seconds: float) -> Iterator[_Deadline]:
    deadline = _Deadline(seconds)
    token = _deadline.set(deadline)
    try:
        yield deadline
    finally:
        _deadline.reset(token)
        deadline.close()
