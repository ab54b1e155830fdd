"""The open WebSockets of one gateway: how many a key may have, and when they must end.

One task looks after all of them. A timer and a task for each would cost an idle socket more
than the rest of it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from django.conf import settings

from tenants.authentication import Credentials
from tenants.errors import TenantError, TooManyRequests
from tenants.principal import Principal

if TYPE_CHECKING:
    from api.gateway import Gateway

log = logging.getLogger(__name__)

# A revocation closes sockets within a second; it is known here a moment after its commit.
LOOK_S = 0.25
# Idle sockets are looked for every so many looks.
IDLE_LOOKS = 20
UNAUTHORIZED_CLOSE = 4401  # 4000 to 4999 are the application's own (RFC 6455, 7.4.2)
IDLE_CLOSE = 4408
RESTART_CLOSE = 1012
# What runs on a socket when its gateway stops may end; then it is closed.
FAREWELL_S = 20.0


class Socket(Protocol):
    address: str | None
    idle_since: float | None  # monotonic; None while a request runs

    def end(self, code: int, reason: str) -> None: ...

    def say_goodbye(self) -> None: ...


@dataclass(slots=True)
class _Key:
    """The sockets of one key."""

    principal: Principal
    checked_at: float
    sockets: set[Socket] = field(default_factory=set)


class Sockets:
    """One for each gateway; ``run`` as a task beside it."""

    def __init__(self, gateway: Gateway):
        self._gateway = gateway
        self._keys: dict[Credentials, _Key] = {}
        self._of_organizations: dict[int, int] = {}
        self.are_leaving = False  # this gateway stops: no request begins on a socket any more

    def __len__(self) -> int:
        return sum(self._of_organizations.values())

    def add(self, held: Credentials, principal: Principal, socket: Socket) -> None:
        """Raises TooManyRequests."""
        key = self._keys.get(held)
        if key is not None and len(key.sockets) >= settings.WEBSOCKET_MAX_PER_KEY:
            raise _too_many("key", settings.WEBSOCKET_MAX_PER_KEY)
        organization = principal.organization
        count = self._of_organizations.get(organization, 0)
        if count >= settings.WEBSOCKET_MAX_PER_ORGANIZATION:
            raise _too_many("organization", settings.WEBSOCKET_MAX_PER_ORGANIZATION)
        if key is None:
            key = self._keys[held] = _Key(principal, time.monotonic())
        key.sockets.add(socket)
        self._of_organizations[organization] = count + 1

    def remove(self, held: Credentials, socket: Socket) -> None:
        key = self._keys.get(held)
        if key is None or socket not in key.sockets:
            return
        key.sockets.discard(socket)
        if not key.sockets:
            del self._keys[held]
        organization = key.principal.organization
        self._of_organizations[organization] -= 1
        if not self._of_organizations[organization]:
            del self._of_organizations[organization]

    def all(self) -> list[Socket]:
        return [socket for key in self._keys.values() for socket in key.sockets]

    async def run(self) -> None:
        looks = 0
        while True:
            await asyncio.sleep(LOOK_S)
            looks += 1
            try:
                await self._check_keys()
            except Exception:
                log.exception("sockets.unchecked")
            if looks % IDLE_LOOKS == 0:
                self._end_idle()

    async def _check_keys(self) -> None:
        """Ask again for the keys of organizations that changed."""
        now, authenticator = time.monotonic(), self._gateway.authenticator
        for held, key in list(self._keys.items()):
            expires_at = key.principal.key_expires_at
            is_expired = expires_at is not None and expires_at <= time.time()
            if is_expired or authenticator.has_changed(key.principal.organization, key.checked_at):
                await self._check(held, key, now)

    async def _check(self, held: Credentials, key: _Key, now: float) -> None:
        authenticator = self._gateway.authenticator
        for address in {socket.address for socket in key.sockets}:
            try:
                key.principal = await authenticator.authenticate_again(held, address)
                key.checked_at = now
            except TenantError as error:
                if error.status == 503:
                    return  # nobody can say; the next look asks again
                for socket in [each for each in key.sockets if each.address == address]:
                    socket.end(UNAUTHORIZED_CLOSE, "the key is not valid any more")

    def _end_idle(self) -> None:
        horizon = time.monotonic() - settings.WEBSOCKET_IDLE_S
        for socket in self.all():
            if socket.idle_since is not None and socket.idle_since < horizon:
                socket.end(IDLE_CLOSE, "idle")

    async def farewell(self) -> None:
        """Tell all of them that this gateway stops; returns when they have gone, or in time."""
        self.are_leaving = True
        for number, socket in enumerate(self.all()):
            socket.say_goodbye()
            if number % 500 == 499:
                await asyncio.sleep(0)
        deadline = time.monotonic() + FAREWELL_S
        while self._keys and time.monotonic() < deadline:
            await asyncio.sleep(0.05)


def _too_many(whose: str, most: int) -> TooManyRequests:
    return TooManyRequests(
        f"A {whose} has at most {most} sockets open at one gateway.", retry_after_s=5
    )
