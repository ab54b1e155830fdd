"""A web server of a tenant's for tests: it keeps what it was sent and answers as it is told."""

from __future__ import annotations

import socket
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Received:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """``with Receiver() as receiver``; the attributes change what it answers."""

    status: int = 200
    answer: bytes = b"ok"
    location: str = ""
    drips: str = ""  # "headers" or "body": a byte at a time, for ever
    waits_for: threading.Event | None = None
    tls: tuple[Path, Path] | None = None  # certificate and key
    received: list[Received] = field(default_factory=list)

    def __enter__(self) -> Receiver:
        handler = type("Handler", (_Handler,), {"receiver": self})
        self.leaving = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.tls)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.leaving.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"


class _Handler(BaseHTTPRequestHandler):
    receiver: Receiver
    timeout = 10

    def do_POST(self) -> None:
        receiver = self.receiver
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        receiver.received.append(Received(self.command, self.path, headers, body))
        if receiver.waits_for is not None:
            receiver.waits_for.wait(10)
        if receiver.drips == "headers":
            self._drip(b"HTTP/1.1 200 OK\r\nx: ")
        self.send_response(receiver.status)
        if receiver.location:
            self.send_header("location", receiver.location)
        if not receiver.drips:
            self.send_header("content-length", str(len(receiver.answer)))
        self.end_headers()
        if receiver.drips:
            self._drip(b"")
        self.wfile.write(receiver.answer)

    do_GET = do_POST

    def _drip(self, first: bytes) -> None:
        self.wfile.write(first)
        while not self.receiver.leaving.wait(0.02):
            self.wfile.write(b"x")
            self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: Any) -> None:
        pass
