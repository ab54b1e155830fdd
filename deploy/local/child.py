"""One supervised process: started, read, restarted, stopped, and never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local import logs
from deploy.local.backoff import Backoff
from deploy.local.reaper import Mark, reap
from deploy.local.state import ProcessState

Address = tuple[str, int]
LEASH = str(Path(__file__).with_name("leash.py"))


@dataclass(frozen=True)
class ProcessSpec:
    """What to run. SIGTERM asks it to stop; after ``stop_timeout_s`` it is killed.

    ``listens_on`` are addresses at which the supervisor listens in its place; the process
    gets each as ``--fd <number>``.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_timeout_s: float = 10.0
    listens_on: tuple[Address, ...] = ()


class _Output(asyncio.Protocol):
    """Turns what a process writes into lines, until the last holder of the pipe is gone."""

    def __init__(self, on_line: Callable[[bytes], None]):
        self._lines = logs.Lines()
        self._on_line = on_line
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        for line in self._lines.feed(data):
            self._on_line(line)

    def connection_lost(self, error: Exception | None) -> None:
        for line in self._lines.finish():
            self._on_line(line)
        self.ended.set()


class Child:
    """Runs ``spec`` again and again until stopped; ``state`` says how it fares."""

    def __init__(
        self,
        spec: ProcessSpec,
        mark: Mark,
        folder: Path,
        on_line: Callable[[str, bytes], None],
        on_change: Callable[[], None],
    ):
        self.spec = spec
        self.state = ProcessState(spec.name)
        self._mark = Mark(mark.state_dir, mark.run, spec.name)
        self._folder = folder
        self._on_line = on_line
        self._on_change = on_change
        self._listening: tuple[int, ...] = ()
        self._stopping = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None

    def accept_from(self, sockets: Sequence[socket.socket]) -> None:
        """Have the process accept from these; before ``start``."""
        self._listening = tuple(each.fileno() for each in sockets)

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep_running(), name=self.spec.name)

    async def stop(self, hurry: asyncio.Event) -> None:
        """Ask it to stop; kill it when it takes too long or ``hurry`` is set."""
        self._stopping.set()
        if self._task is None:
            return
        self._terminate()
        hurried = asyncio.create_task(hurry.wait())
        await asyncio.wait(
            {self._task, hurried},
            timeout=self.spec.stop_timeout_s,
            return_when=asyncio.FIRST_COMPLETED,
        )
        hurried.cancel()
        if not self._task.done():
            self._say(f"did not stop within {self.spec.stop_timeout_s:g} s; killing it")
            self._kill_group()
        await self._task

    async def _keep_running(self) -> None:
        backoff = Backoff()
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                ended = await self._run_once()
            except OSError as error:
                ended = f"could not be started: {error}"
            if self._stopping.is_set():
                break
            delay_s = backoff.after_run(time.monotonic() - began)
            self._say(f"{ended}; starting it again in {delay_s:.1f} s")
            self._report("restarting", note=ended)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay_s)
        self._report("stopped")

    async def _run_once(self) -> str:
        """One life of the process and everything it started; says how it ended."""
        reader, writer = os.pipe()
        output = _Output(lambda line: self._on_line(self.spec.name, line))
        # A pipe of our own: asyncio's would keep wait() until grandchildren close it too.
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: output, os.fdopen(reader, "rb", 0)
        )
        try:
            ended = await self._run_writing_to(writer)
            await asyncio.to_thread(reap, self._mark)
            with suppress(TimeoutError):
                await asyncio.wait_for(output.ended.wait(), 1)
        finally:
            transport.close()
        return ended

    async def _run_writing_to(self, writer: int) -> str:
        leash = (sys.executable, "-I", "-S", LEASH, str(os.getpid()))
        accepting = [part for fd in self._listening for part in ("--fd", str(fd))]
        try:
            self._process = await asyncio.create_subprocess_exec(
                *leash,
                *self.spec.command,
                *accepting,
                cwd=self._folder,
                env={**self.spec.environment, **self._mark.environment()},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                start_new_session=True,
                pass_fds=self._listening,
            )
        finally:
            os.close(writer)
        self._report("running", starts=self.state.starts + 1)
        if self._stopping.is_set():  # it was asked to stop while it was being started
            self._terminate()
        code = await self._process.wait()
        self._kill_group()
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"

    def _terminate(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._report("stopping")
            # The leader alone: it ends its own children in the order it knows.
            self._process.terminate()

    def _kill_group(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _say(self, text: str) -> None:
        self._on_line(self.spec.name, f"{logs.stamp()} [supervisor] {text}".encode())

    def _report(self, state: str, note: str = "", starts: int | None = None) -> None:
        has_pid = state in ("running", "stopping") and self._process is not None
        self.state.pid = self._process.pid if has_pid and self._process else None
        self.state.state, self.state.note, self.state.since = state, note, time.time()
        self.state.starts = self.state.starts if starts is None else starts
        self._on_change()
