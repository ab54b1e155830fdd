"""The web process: ``python -m config.web --host 127.0.0.1 --port 8000``.

uvicorn's own command line cannot name a protocol of ours, so its settings are here.
With ``--fd`` it accepts from sockets at which its supervisor listens: several processes
share one address, and nobody is refused while one of them restarts.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
import time

import uvicorn

from config.http_direct import DirectProtocol
from config.settings import MAX_BODY_BYTES

# Longer than the gateway lets requests finish (api.gateway.DRAIN_TIMEOUT_S).
GRACE_S = 30
# How long answers say that their connection ends, before idle ones are ended unasked: a
# client that asks more often than this never writes into a connection that is being closed.
GOODBYE_S = 1.0
_POLL_S = 0.02
# A WebSocket is asked this often whether it lives, and has as long for its answer.
PING_S = 30.0


class PoliteServer(uvicorn.Server):
    """Says goodbye before it hangs up."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for listening in sockets or []:
            listening.close()
        state = self.server_state
        # A new list: protocols keep what they made of the last one.
        state.default_headers = [*state.default_headers, (b"connection", b"close")]
        deadline = time.monotonic() + GOODBYE_S
        while state.connections and time.monotonic() < deadline:
            await asyncio.sleep(_POLL_S)
        began = time.monotonic()
        await self._say_goodbye_to_sockets()
        # Requests by HTTP went on meanwhile, and have as long together as without sockets.
        left_s = GRACE_S - int(time.monotonic() - began)
        self.config.timeout_graceful_shutdown = max(1, left_s)
        await super().shutdown(sockets)

    @staticmethod
    async def _say_goodbye_to_sockets() -> None:
        """uvicorn would close them in the midst of their requests."""
        from api.gateway import started_gateway

        gateway = started_gateway()
        if gateway is not None:
            await gateway.sockets.farewell()


def server_config(host: str, port: int) -> uvicorn.Config:
    return uvicorn.Config(
        "config.asgi:application",
        host=host,
        port=port,
        loop="uvloop",
        http=DirectProtocol,
        # Without a task for each socket, and without the 70 KB of a socket's compressor: most
        # frames are too small to gain by it.
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_max_size=MAX_BODY_BYTES,
        ws_ping_interval=PING_S,
        ws_ping_timeout=PING_S,
        lifespan="on",
        access_log=False,
        # uvicorn would install its own handlers; Django's stay as they are.
        log_config={"version": 1, "incremental": True},
        # uvicorn would believe any X-Forwarded-For from loopback; TRUSTED_PROXIES decides.
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_S,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the pages and the API.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--fd", type=int, action="append", help="a listening socket, inherited")
    options = parser.parse_args()
    server = PoliteServer(server_config(options.host, options.port))
    server.run(sockets=[socket.socket(fileno=fd) for fd in options.fd] if options.fd else None)
    if not server.started:  # its application's start failed, and was logged
        sys.exit(3)


if __name__ == "__main__":
    main()
