"""What one web process shares between its requests; started and stopped with it."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from typing import TYPE_CHECKING

from django.conf import settings

from api.stream.sockets import Sockets
from billing.pricebook import Pricebook
from billing.spending import SpendingReader
from inference.cache_analysis import CacheAnalysis
from inference.dispatch import Dispatcher
from inference.output_estimate import OutputEstimate
from inference.registry import Registry
from inference.response_cache import ResponseCache
from inference.semantic_cache import SemanticCache
from inference.settlement import Settlement
from inference.stream_log import StreamLogs
from tenants.admission import Admission
from tenants.authentication import Authenticator
from tenants.garbage import keep_what_is_here
from tenants.redis_link import RedisLink

if TYPE_CHECKING:
    from api.kept.producer import Producer

log = logging.getLogger(__name__)

DRAIN_TIMEOUT_S = 25.0


class Gateway:
    """Raises on ``start`` only for what no retry could mend, such as a missing database."""

    def __init__(self) -> None:
        self.name = secrets.token_hex(6)
        self.is_ready = False
        self.is_draining = False
        self.requests = 0
        # By their logs: answers that are being made here, whether or not somebody reads.
        self.producers: dict[str, Producer] = {}

    async def start(self) -> None:
        self.link = RedisLink(
            settings.REDIS_URL, timeout_s=settings.REDIS_TIMEOUT_S, name=f"gateway.{self.name}"
        )
        self.authenticator = Authenticator()
        self.registry = Registry()
        self.pricebook = Pricebook()
        self.output_estimate = OutputEstimate()
        self.admission = Admission(
            self.link, settings.HOLD_EXPIRY_S, SpendingReader(self.link, self.pricebook)
        )
        self.settlement = Settlement(self.admission, self.name, self.pricebook)
        self.cache = ResponseCache(self.link)
        self.logs = StreamLogs(self.link)
        self.sockets = Sockets(self)
        self.dispatcher = Dispatcher(settings.REDIS_URL, self.name)
        self.dispatcher.fleet.region_of = self._region_of
        self.dispatcher.on_redis_lost = self.settlement.deliver_again
        self.semantic_cache = SemanticCache(self.link, self.dispatcher, self.registry)
        self.cache_analysis = CacheAnalysis(self.link, self.pricebook)
        await self.registry.refresh()
        await self.pricebook.refresh()
        await self.dispatcher.start()
        self._tasks = [
            asyncio.create_task(self.authenticator.run_listener()),
            asyncio.create_task(self.authenticator.addresses.run()),
            asyncio.create_task(self.registry.run()),
            asyncio.create_task(self.pricebook.run()),
            asyncio.create_task(self.output_estimate.run()),
            asyncio.create_task(self.settlement.run()),
            asyncio.create_task(self.cache_analysis.run()),
            asyncio.create_task(self.logs.run()),
            asyncio.create_task(self.sockets.run()),
        ]
        self.is_ready = True
        log.info("gateway.started", extra={"gateway": self.name})

    async def stop(self) -> None:
        """Finish the requests in flight (bounded), then let go of everything."""
        self.is_draining = True
        deadline = time.monotonic() + DRAIN_TIMEOUT_S
        while self.requests and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        await self._stop_producers()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.settlement.stop()
        await self.dispatcher.stop()
        await self.link.aclose()
        log.info("gateway.stopped", extra={"gateway": self.name})

    async def _stop_producers(self) -> None:
        """Their logs say that they ended, and their readers may go elsewhere."""
        tasks = [producer.task for producer in self.producers.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _region_of(self, deployment: int) -> str:
        for entry in self.registry.snapshot.models.values():
            for served in entry.deployments:
                if served.deployment == deployment:
                    return served.region
        return ""


_gateway: Gateway | None = None


def current_gateway() -> Gateway:
    """The process's gateway; ``config.asgi`` starts it before the first request."""
    if _gateway is None:
        raise RuntimeError("The gateway has not been started.")
    return _gateway


def started_gateway() -> Gateway | None:
    return _gateway


async def start_gateway() -> Gateway:
    global _gateway  # noqa: PLW0603 - one a process, shared by HTTP and WebSocket
    _gateway = Gateway()
    await _gateway.start()
    keep_what_is_here()
    return _gateway
