"""`make up`: databases, schema, models, demo, processes, first answer, in this order.

Every step is idempotent, so a run that was cut off is simply repeated.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from deploy.local import files, logs, programs, ready, runtime_env, services
from deploy.local.banner import render_banner
from deploy.local.files import LocalError
from deploy.local.processes import wait_until
from deploy.local.progress import Progress
from deploy.local.reaper import Mark, reap
from deploy.local.state import (
    PlatformState,
    claim_lock,
    get_lock_holder,
    read_state,
    take_lock,
    write_state,
)
from deploy.local.supervisor import Supervisor

BASE_DIR = Path(__file__).resolve().parent.parent.parent
COMMAND_TIMEOUT_S = 600.0
PULL_TIMEOUT_S = 3600.0
READY_TIMEOUT_S = 300.0
DETACHED_STOP_TIMEOUT_S = 180.0
_STEPS = 5


@dataclass(frozen=True)
class Prepared:
    """What the supervisor needs to start."""

    choices: programs.Choices
    environment: dict[str, str]
    embedded: list[services.Service]


def up(state_dir: Path, *, is_detached: bool) -> int:
    """Bring the platform up; in the foreground until Ctrl-C. Returns the exit status."""
    choices = programs.read_choices()
    files.make_state_dir(state_dir)
    lock = take_lock(state_dir)
    if lock is None:
        return _say_running(state_dir)
    _check_port(choices.port)
    progress = Progress(_STEPS + 1)
    # Until the supervisor takes over, being told to end must still stop the databases.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        prepared = _prepare(state_dir, choices, progress)
        if is_detached:
            return _run_detached(state_dir, prepared, progress, lock)
        asyncio.run(_run_here(state_dir, prepared, progress))
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        return 130
    finally:
        reap(_preparing(state_dir))
        # The supervisor has stopped them already if it ran here; a detached one keeps them.
        if get_lock_holder(state_dir) in (None, os.getpid()):
            services.stop_all(state_dir)
    return 0


def supervise(state_dir: Path, lock: int, embedded: Sequence[str]) -> int:
    """The detached supervisor's own process: ``up --detach`` has prepared everything."""
    claim_lock(lock)
    watched = [service for service in services.ALL if service.name in embedded]
    prepared = Prepared(programs.read_choices(), dict(os.environ), watched)
    asyncio.run(_make_supervisor(state_dir, prepared, console=None).run())
    return 0


def _preparing(state_dir: Path) -> Mark:
    """The mark of the programs that prepare, so that none of them outlives us."""
    return Mark(state_dir, run="prepare")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say_running(state_dir: Path) -> int:
    state = read_state(state_dir)
    url = state.url or "an address it has not said yet"
    if not state.is_ready:
        print(
            f"Sluice is already starting (process {get_lock_holder(state_dir)}); see `make logs`."
        )
        return 0
    print(f"Sluice is already running at {url} (process {state.pid}).")
    simulated = os.environ.get("ENGINE") == "simulated"
    model = programs.read_choices().chat_deployment
    print(render_banner(state_dir, url, is_simulated=simulated, is_detached=True, model=model))
    return 0


def _check_port(port: int) -> None:
    if not files.is_port_free(port):
        raise LocalError(
            f"Port {port} of 127.0.0.1 is in use by another program;"
            f" choose another one, for example `make up PORT={port + 1}`."
        )


# --- Preparing ---------------------------------------------------------------------------


def _prepare(state_dir: Path, choices: programs.Choices, progress: Progress) -> Prepared:
    write_state(state_dir, PlatformState(pid=os.getpid(), url=choices.url))
    with progress.step("databases"):
        environment = _start_services(state_dir, choices, progress)
    marked = {**environment, **_preparing(state_dir).environment()}
    with progress.step("migrate"):
        _manage(progress, marked, "migrate", "--no-input", "--verbosity=1")
    with progress.step("collect static files"):
        _manage(progress, marked, "collectstatic", "--no-input", "--verbosity=0")
    with progress.step("pull models"):
        _manage(progress, marked, *choices.pull, timeout_s=PULL_TIMEOUT_S)
    with progress.step("demo organization"):
        _manage(progress, marked, *choices.demo)
    return Prepared(choices, environment, services.embedded())


def _start_services(
    state_dir: Path, choices: programs.Choices, progress: Progress
) -> dict[str, str]:
    chosen = {"SLUICE_URL": choices.url}
    for service in services.ALL:
        given = service.given()
        if service.is_embedded:
            chosen[service.variable] = service.start(state_dir)
            chosen |= service.addresses(state_dir)
            progress.say(f"{service.name} runs, process {service.pid(state_dir)}")
        else:
            chosen |= given
            progress.say(f"{service.name}: {service.variable} is set, nothing to start")
    values = runtime_env.write_runtime_env(state_dir, chosen)
    return runtime_env.child_environment(state_dir, values)


def _manage(
    progress: Progress,
    environment: Mapping[str, str],
    *arguments: str,
    timeout_s: float = COMMAND_TIMEOUT_S,
) -> None:
    progress.run((sys.executable, "manage.py", *arguments), BASE_DIR, environment, timeout_s)


# --- Running -----------------------------------------------------------------------------


def _make_supervisor(
    state_dir: Path, prepared: Prepared, console: logs.Console | None
) -> Supervisor:
    groups = programs.plan_processes(state_dir, prepared.choices, prepared.environment)
    return Supervisor(
        state_dir,
        groups,
        prepared.embedded,
        folder=BASE_DIR,
        url=prepared.choices.url,
        console=console,
    )


async def _run_here(state_dir: Path, prepared: Prepared, progress: Progress) -> None:
    groups = programs.plan_processes(state_dir, prepared.choices, prepared.environment)
    names = ["supervisor", *(spec.name for group in groups for spec in group)]
    supervisor = _make_supervisor(state_dir, prepared, logs.Console(names))
    cancelled = threading.Event()

    async def until_ready() -> None:
        try:
            await asyncio.to_thread(_wait_ready, state_dir, prepared, progress, cancelled)
        finally:
            cancelled.set()  # a thread cannot be cancelled, only told
        supervisor.mark_ready()
        _print_banner(state_dir, prepared, is_detached=False)

    await supervisor.run(until_ready)


def _run_detached(state_dir: Path, prepared: Prepared, progress: Progress, lock: int) -> int:
    """Start the supervisor in a session of its own, holding our lock; wait for an answer."""
    embedded = [service.name for service in prepared.embedded]
    with open(logs.log_path(state_dir, "supervisor"), "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.local", "supervise", str(lock), *embedded],
            cwd=BASE_DIR,
            env=prepared.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=[lock],
        )
    _wait_until_claimed(state_dir, process)
    os.close(lock)  # the supervisor has the lock now
    try:
        _wait_ready(state_dir, prepared, progress, threading.Event())
    except (LocalError, KeyboardInterrupt):
        process.terminate()
        process.wait(DETACHED_STOP_TIMEOUT_S)
        raise
    process.send_signal(signal.SIGUSR1)  # it answers: the supervisor says so in its state
    _print_banner(state_dir, prepared, is_detached=True)
    process.returncode = 0  # it stays; nobody here waits for it
    return 0


def _wait_until_claimed(state_dir: Path, process: subprocess.Popen[bytes]) -> None:
    wait_until(lambda: get_lock_holder(state_dir) == process.pid or process.poll() is not None, 30)
    if process.poll() is not None:
        raise LocalError("The supervisor ended.\n" + ready.log_tail(state_dir, "supervisor"))


def _wait_ready(
    state_dir: Path, prepared: Prepared, progress: Progress, cancelled: threading.Event
) -> None:
    key = runtime_env.read_demo_env(state_dir).get("OPENAI_API_KEY", "")
    limit_s = float(os.environ.get("READY_TIMEOUT_S") or READY_TIMEOUT_S)
    deadline = time.monotonic() + limit_s
    with progress.step("start processes and wait for the first answers"):
        for probe in ready.probes(prepared.choices):
            ready.wait_for(
                probe,
                port=prepared.choices.port,
                key=key,
                state_dir=state_dir,
                deadline=deadline,
                cancelled=cancelled,
                say=progress.say,
            )
            progress.say(f"{probe.name}: came back")


def _print_banner(state_dir: Path, prepared: Prepared, *, is_detached: bool) -> None:
    is_simulated = prepared.environment.get("ENGINE") == "simulated"
    print(
        render_banner(
            state_dir,
            prepared.choices.url,
            is_simulated=is_simulated,
            is_detached=is_detached,
            model=prepared.choices.chat_deployment,
        ),
        flush=True,
    )
