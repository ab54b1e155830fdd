"""Keeps every process of one machine alive, and leaves none behind.

Why not a library: honcho neither restarts nor tracks process groups; circus and
supervisord restart, but neither asks for a parent-death signal nor finds descendants
that left the group, which is how a killed vLLM leaves gigabytes behind; systemd is not
there in containers. What is needed is small: asyncio subprocesses, each

- leader of its own session, so that its whole group can be killed (``child``),
- ended by the kernel when the supervisor dies (``leash``), and by a warden that sees
  to its descendants (``warden``),
- marked in its environment, so that what escaped all this is found (``reaper``),
- started again with capped exponential back-off and jitter (``backoff``).

Where a process takes connections in, the supervisor listens in its place: those that
come while it restarts wait in the socket for it, and several processes share one address.

The embedded databases are daemons of their own; they are watched and started again,
and stopped last.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from deploy.local import files, logs
from deploy.local.backoff import Backoff
from deploy.local.child import Address, Child, ProcessSpec
from deploy.local.reaper import Mark, reap
from deploy.local.services import Service
from deploy.local.state import PlatformState, ProcessState, write_state

WATCH_EVERY_S = 1.0
BACKLOG = 2048  # as uvicorn's own; the kernel's somaxconn bounds it too
NAME = "supervisor"


class Supervisor:
    """``groups`` are stopped in their order, each as a whole; then the services."""

    def __init__(
        self,
        state_dir: Path,
        groups: Sequence[Sequence[ProcessSpec]],
        services: Sequence[Service] = (),
        *,
        folder: Path,
        url: str = "",
        console: logs.Console | None = None,
    ):
        self._state_dir = state_dir
        self._folder = folder
        self._services = services
        self._service_states = [ProcessState(service.name) for service in services]
        self._console = console
        self._files: dict[str, logs.RotatingFile] = {}
        self._mark = Mark(state_dir, run=files.new_secret(16))
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._platform = PlatformState(pid=os.getpid(), url=url)
        self._sockets: dict[Address, socket.socket] = {}
        self._groups = [
            [Child(spec, self._mark, folder, self._write_line, self._save) for spec in group]
            for group in groups
        ]

    def request_stop(self) -> None:
        """Stop in order; asked a second time, stop at once."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    def mark_ready(self) -> None:
        self._platform.is_ready = True
        self._save()

    async def run(self, when_started: Callable[[], Awaitable[None]] | None = None) -> None:
        """Supervise until asked to stop; ``when_started`` runs beside, and its error ends it."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.request_stop)
        loop.add_signal_handler(signal.SIGUSR1, self.mark_ready)  # `up --detach` saw an answer
        left_over = await asyncio.to_thread(reap, Mark(self._state_dir), 3.0)
        if left_over:
            self._say(f"ended processes that an earlier run left behind: {left_over}")
        with self._warden():
            for child in self._children():
                child.accept_from([self._listen(address) for address in child.spec.listens_on])
                child.start()
            try:
                await self._watch(when_started)
            finally:
                await self._stop_all()

    async def _watch(self, when_started: Callable[[], Awaitable[None]] | None) -> None:
        watchers = [
            asyncio.create_task(self._watch_service(service, state))
            for service, state in zip(self._services, self._service_states, strict=True)
        ]
        stopped = asyncio.create_task(self._stop.wait())
        beside = asyncio.ensure_future(when_started()) if when_started else None
        try:
            if beside is not None:
                await asyncio.wait({beside, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if beside.done():
                    beside.result()
            await stopped
        finally:
            self._stop.set()
            stopped.cancel()
            if beside is not None:
                beside.cancel()
            await asyncio.gather(*watchers, *([beside] if beside else []), return_exceptions=True)

    def _listen(self, address: Address) -> socket.socket:
        if address not in self._sockets:
            self._sockets[address] = socket.create_server(address, backlog=BACKLOG)
        return self._sockets[address]

    def _children(self) -> list[Child]:
        return [child for group in self._groups for child in group]

    @contextlib.contextmanager
    def _warden(self) -> Iterator[None]:
        """The process that cleans up after us if we are killed; see ``warden``."""
        run = self._mark.run or ""
        warden = subprocess.Popen(
            [sys.executable, "-m", "deploy.local.warden", str(self._state_dir), run],
            cwd=self._folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield
        finally:
            with suppress(subprocess.TimeoutExpired):
                warden.communicate(timeout=30)  # closes the pipe it reads

    async def _watch_service(self, service: Service, state: ProcessState) -> None:
        """Start a database again when it is gone, and keep its log file short."""
        backoff, began = Backoff(), time.monotonic()
        while not self._stop.is_set():
            pid = await asyncio.to_thread(service.pid, self._state_dir)
            if pid is None:
                delay_s = backoff.after_run(time.monotonic() - began)
                self._report_service(state, None, "restarting")
                self._say(f"{service.name} is gone; starting it again in {delay_s:.1f} s")
                await self._pause(delay_s)
                await self._start_service(service)
                began = time.monotonic()
            elif pid != state.pid:
                self._report_service(state, pid, "running")
            logs.trim_in_place(logs.log_path(self._state_dir, service.name))
            await self._pause(WATCH_EVERY_S)

    async def _start_service(self, service: Service) -> None:
        if self._stop.is_set():
            return
        try:
            # The processes know the address it had.
            await asyncio.to_thread(service.start, self._state_dir, may_move=False)
        except (files.LocalError, OSError, subprocess.SubprocessError) as error:
            self._say(f"{service.name}: {error}")

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def _stop_all(self) -> None:
        self._platform.is_ready = False
        self._say("stopping")
        for listening in self._sockets.values():
            listening.close()  # whoever comes now is refused by the processes' end
        for group in self._groups:
            await asyncio.gather(*(child.stop(self._hurry) for child in group))
        for service, state in reversed(
            list(zip(self._services, self._service_states, strict=True))
        ):
            self._report_service(state, state.pid, "stopping")
            await asyncio.to_thread(service.stop, self._state_dir)
            self._report_service(state, None, "stopped")
        left = await asyncio.to_thread(reap, self._mark)
        self._say(f"stopped{f'; killed what was left: {left}' if left else ''}")
        for file in self._files.values():
            file.close()

    def _report_service(self, state: ProcessState, pid: int | None, said: str) -> None:
        if said == "running":
            state.starts += 1
        state.pid, state.state, state.since = pid, said, time.time()
        self._save()

    def _save(self) -> None:
        self._platform.processes = [
            *self._service_states,
            *(child.state for child in self._children()),
        ]
        write_state(self._state_dir, self._platform)

    def _say(self, text: str) -> None:
        self._write_line(NAME, f"{logs.stamp()} {text}".encode())

    def _write_line(self, name: str, line: bytes) -> None:
        if name not in self._files:
            self._files[name] = logs.RotatingFile(logs.log_path(self._state_dir, name))
        self._files[name].write_line(line)
        if self._console is not None:
            self._console.show(name, line.decode(errors="replace"))
