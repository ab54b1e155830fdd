"""``/healthz``, ``/readyz`` and ``/metrics`` of a worker, on a thread of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, Protocol
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import make_wsgi_app


class Probed(Protocol):
    """What is asked how it fares: ready when its state is "ready"."""

    @property
    def state(self) -> str: ...


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Probes come every few seconds; their lines would bury the rest."""


def serve(probed: Probed, address: str, port: int) -> None:
    """Port 0 serves nothing."""
    if not port:
        return
    metrics = make_wsgi_app()

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return metrics(environ, start_response)
        if path not in {"/healthz", "/readyz"}:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"not found\n"]
        is_good = path == "/healthz" or probed.state == "ready"
        start_response(
            "200 OK" if is_good else "503 Service Unavailable",
            [("Content-Type", "text/plain")],
        )
        return [probed.state.encode() + b"\n"]

    server = make_server(address, port, application, handler_class=_QuietHandler)
    threading.Thread(target=server.serve_forever, name="probe", daemon=True).start()
