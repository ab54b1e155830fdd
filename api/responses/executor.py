"""Makes background responses: claims them, makes many at once, keeps their leases.

In the batch process, beside what runs the lines of batches and on the same gateway; several
share the work by their leases. A killed one's responses are begun anew by another.
"""

from __future__ import annotations

import asyncio
import logging

from django.conf import settings

from api.batches.reports import LineReports
from api.gateway import Gateway
from api.key_principals import KeyPrincipals
from api.loops import closing, for_ever, in_thread
from api.responses.making import CANCELLED, LOST, STOPPING, Making
from inference.answers import metrics
from inference.answers.leases import (
    HeldResponse,
    claim_responses,
    count_open_responses,
    reap_responses,
    renew_responses,
)
from inference.answers.work import CHANNEL
from tenants.postgres.listening import listen

log = logging.getLogger(__name__)

# What notices tell is found by these too, if the connection that listens is lost.
LOOK_EVERY_S, RENEW_EVERY_S = 1.0, 2.0
GRACE_S = 10.0


class BackgroundExecutor:
    """``reports`` are the gateway's settlement: what is used is billed with its response."""

    def __init__(self, gateway: Gateway, reports: LineReports, owner: str):
        self._gateway = gateway
        self._reports = reports
        self._owner = owner
        self._principals = KeyPrincipals(closing)
        self._makings: dict[int, Making] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()  # something is new, or a place is free
        self._is_stopping = False

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop`` is set; then finish what runs, within a bound."""
        loops = [
            asyncio.create_task(for_ever(action, every_s))
            for action, every_s in (
                (self._look, LOOK_EVERY_S),
                (self._feed, 0.0),
                (self._renew, RENEW_EVERY_S),
            )
        ]
        loops.append(asyncio.create_task(listen(CHANNEL, self._on_notice)))
        await stop.wait()
        self._is_stopping = True
        await self._wind_down()
        for task in loops:
            task.cancel()
        await asyncio.gather(*loops, return_exceptions=True)

    async def _wind_down(self) -> None:
        """What does not end in time is another's at once."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=GRACE_S)
        for making in list(self._makings.values()):
            making.stop(STOPPING)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _on_notice(self, payload: str) -> None:
        """A response's id: it is to be stopped. Nothing: there is work."""
        if not payload:
            self._wake.set()
        for making in list(self._makings.values()):
            if making.held.public_id == payload:
                making.stop(CANCELLED)

    async def _look(self) -> None:
        reaped = await in_thread(reap_responses)
        if reaped:
            metrics.REAPED.inc(reaped)
            log.warning("background.leases_expired", extra={"responses": reaped})
        metrics.OPEN.set(await in_thread(count_open_responses))
        self._wake.set()

    async def _feed(self) -> None:
        await self._wake.wait()
        self._wake.clear()
        room = settings.BACKGROUND_MAX_IN_FLIGHT - len(self._makings)
        if self._is_stopping or room <= 0:
            return
        for held in await in_thread(claim_responses, self._owner, room):
            self._start(held)

    def _start(self, held: HeldResponse) -> None:
        making = Making(self._gateway, self._reports, self._principals, held)
        self._makings[held.pk] = making
        task = asyncio.create_task(self._serve(making))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        metrics.IN_FLIGHT.set(len(self._makings))

    async def _serve(self, making: Making) -> None:
        try:
            await making.run()
        except Exception:
            # Its lease runs out, and somebody begins it anew.
            log.exception("background.not_ended", extra={"response": making.held.public_id})
        finally:
            if self._makings.get(making.held.pk) is making:
                del self._makings[making.held.pk]
            metrics.IN_FLIGHT.set(len(self._makings))
            self._wake.set()

    async def _renew(self) -> None:
        makings = list(self._makings.values())
        if not makings:
            return
        stopping, lost = await in_thread(renew_responses, [making.held for making in makings])
        for making in makings:
            if making.held.pk in stopping:
                making.stop(CANCELLED)
            elif making.held.pk in lost:
                making.stop(LOST)
