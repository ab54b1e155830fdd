"""Liveness, readiness and metrics: what operators and their tools ask a gateway."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress

from django.conf import settings
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from redis.exceptions import RedisError

from api.errors import UnknownPath
from api.gateway import Gateway
from api.http import Request, Response, check_method
from inference import metrics


async def answer(gateway: Gateway, request: Request, path: str) -> Response:
    check_method(request, "GET")
    plain = (b"content-type", b"text/plain; charset=utf-8")
    if path == "/healthz":
        return Response(200, [plain], b"ok\n")
    if path == "/readyz":
        missing = await _not_ready(gateway)
        body = f"not ready: {', '.join(missing)}\n" if missing else "ready\n"
        return Response(503 if missing else 200, [plain], body.encode())
    if not _may_read_metrics(request):
        raise UnknownPath(f"Unknown request URL: GET {path}.")
    metrics.IN_FLIGHT.set(gateway.requests)
    metrics.SOCKETS.set(len(gateway.sockets))
    metrics.KEPT.set(len(gateway.producers))
    content = await asyncio.to_thread(generate_latest)
    return Response(200, [(b"content-type", CONTENT_TYPE_LATEST.encode())], content)


async def _not_ready(gateway: Gateway) -> list[str]:
    missing = []
    if gateway.is_draining:
        missing.append("draining")
    try:
        await gateway.link.call("PING")
    except (RedisError, OSError):
        if not gateway.dispatcher.bypass.is_open:  # else it serves, by lines to the replicas
            missing.append("redis")
    for entry in gateway.registry.snapshot.models.values():
        if not gateway.dispatcher.has_replica(served.deployment for served in entry.deployments):
            missing.append(f"no replica of {entry.name}")
    if not gateway.registry.snapshot.models:
        missing.append("no model")
    return missing


def _may_read_metrics(request: Request) -> bool:
    if settings.METRICS_TOKEN:
        expected = f"Bearer {settings.METRICS_TOKEN}".encode()
        return hmac.compare_digest(request.header(b"authorization") or b"", expected)
    client = request.scope.get("client")
    # A proxy's address says nothing of who asked, so behind one a token is needed.
    if request.header(b"x-forwarded-for") is not None or client is None:
        return False
    return ipaddress.ip_address(client[0]).is_loopback
