"""The web process: ``python -m config.web --host 127.0.0.1 --port 8000``.

uvicorn's own command line cannot name a protocol of ours, so its settings are here.
"""

from __future__ import annotations

import argparse
import sys

import uvicorn

from config.http_head import BoundedHeadProtocol

# Longer than the gateway lets requests finish (api.gateway.DRAIN_TIMEOUT_S).
GRACE_S = 30


def server_config(host: str, port: int) -> uvicorn.Config:
    return uvicorn.Config(
        "config.asgi:application",
        host=host,
        port=port,
        loop="uvloop",
        http=BoundedHeadProtocol,
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
    options = parser.parse_args()
    server = uvicorn.Server(server_config(options.host, options.port))
    server.run()
    if not server.started:  # its application's start failed, and was logged
        sys.exit(3)


if __name__ == "__main__":
    main()
