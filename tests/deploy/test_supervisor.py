"""The supervisor over real processes: restarts, order of stopping, and no orphans."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.local.files import free_port
from deploy.local.logs import log_path
from deploy.local.processes import is_alive, wait_until
from deploy.local.reaper import Mark, find_marked, reap
from deploy.local.restart import restart
from deploy.local.state import ProcessState, get_lock_holder, read_state, take_lock

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = Path(__file__).with_name("platform_of_dummies.py")

SLEEPS = "import time; print('up', flush=True); time.sleep(600)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SLEEPS
FAILS = "raise SystemExit(3)"


def notes_its_end(path: Path, name: str) -> str:
    """A program that, asked to stop, takes a moment and writes its name down."""
    return (
        "import signal, sys, time\n"
        "def end(*_):\n"
        "    time.sleep(0.2)\n"
        f"    open({str(path)!r}, 'a').write({name!r} + '\\n')\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n" + SLEEPS
    )


def forks_grandchild(path: Path) -> str:
    """A program with a child that is deaf to SIGTERM, in a session of its own."""
    return (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-S', '-c', {DEAF!r}], start_new_session=True)\n"
        f"open({str(path)!r}, 'a').write(f'{{child.pid}}\\n')\n" + SLEEPS
    )


# Answers every connection with its process id, slowly, and the last one too.
ANSWERS = """
import os, signal, socket, sys, time
listening = socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1]))
listening.settimeout(0.05)
stopping = []
signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
print("up", flush=True)
while not stopping:
    try:
        connection, _ = listening.accept()
    except (TimeoutError, BlockingIOError):
        continue
    time.sleep(0.02)
    connection.sendall(str(os.getpid()).encode())
    connection.close()
"""


@contextmanager
def supervised(
    state_dir: Path, *groups: list[tuple[Any, ...]]
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(state_dir), json.dumps(groups)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    try:
        names = [name for group in groups for name, *_ in group]
        assert wait_until(lambda: all(has_started(state_dir, name) for name in names), 20)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        finally:
            reap(Mark(state_dir))


def process_state(state_dir: Path, name: str) -> ProcessState:
    found = {state.name: state for state in read_state(state_dir).processes}
    return found.get(name, ProcessState(name))


def has_started(state_dir: Path, name: str) -> bool:
    log = log_path(state_dir, name)
    wrote = log.is_file() and log.read_text() != ""
    return wrote and process_state(state_dir, name).starts > 0


def announced_waits(state_dir: Path, name: str) -> list[float]:
    """Seconds that the supervisor said it would wait before each new start."""
    return [
        float(line.rsplit(" in ", 1)[1].removesuffix(" s"))
        for line in log_path(state_dir, name).read_text().splitlines()
        if "starting it again in" in line
    ]


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path


def test_killed_process_is_started_again(state_dir: Path) -> None:
    with supervised(state_dir, [("one", SLEEPS, 5)], [("two", SLEEPS, 5)]):
        first, bystander = process_state(state_dir, "one"), process_state(state_dir, "two")
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)
        assert wait_until(lambda: process_state(state_dir, "one").starts == 2, 10)
        again = process_state(state_dir, "one")
        assert again.pid not in (None, first.pid)
        assert again.pid is not None and is_alive(again.pid)
        assert process_state(state_dir, "two") == bystander
    assert "killed by SIGKILL" in log_path(state_dir, "one").read_text()


def test_failing_process_is_retried_ever_more_slowly(state_dir: Path) -> None:
    with supervised(state_dir, [("bad", FAILS, 5)]):
        assert wait_until(lambda: len(announced_waits(state_dir, "bad")) >= 3, 20)
    waits = announced_waits(state_dir, "bad")
    assert waits[0] <= 0.5
    assert waits[2] >= 1.0


def test_grandchild_does_not_outlive_a_killed_child(state_dir: Path, tmp_path: Path) -> None:
    pids = tmp_path / "grandchildren"
    with supervised(state_dir, [("engine", forks_grandchild(pids), 5)]):
        grandchild = int(pids.read_text().split()[0])
        parent = process_state(state_dir, "engine").pid
        assert parent is not None and is_alive(grandchild)
        assert os.getpgid(grandchild) != os.getpgid(parent), "it must have left the group"
        os.kill(parent, signal.SIGKILL)
        assert wait_until(lambda: not is_alive(grandchild), 10)
        assert wait_until(lambda: process_state(state_dir, "engine").starts == 2, 10)


def test_nothing_outlives_a_killed_supervisor(state_dir: Path, tmp_path: Path) -> None:
    pids = tmp_path / "grandchildren"
    with supervised(state_dir, [("engine", forks_grandchild(pids), 5)], [("web", SLEEPS, 5)]) as it:
        grandchild = int(pids.read_text().split()[0])
        children = [process_state(state_dir, name).pid for name in ("engine", "web")]
        it.kill()
        it.wait(5)
        assert wait_until(lambda: not any(is_alive(pid or 0) for pid in children), 5)
        # The grandchild ignores SIGTERM: the warden's second signal ends it.
        assert wait_until(lambda: not is_alive(grandchild), 20)
        assert get_lock_holder(state_dir) is None


def test_next_start_ends_what_an_earlier_run_left(state_dir: Path) -> None:
    def spawn(mark: Mark) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-S", "-c", SLEEPS]
        return subprocess.Popen(
            command, env={**os.environ, **mark.environment()}, stdout=subprocess.DEVNULL
        )

    left_over = spawn(Mark(state_dir, "earlier", "chat-1"))
    neighbour = spawn(Mark(state_dir / "another-clone", "earlier", "chat-1"))
    try:
        assert wait_until(lambda: len(find_marked(Mark(state_dir))) == 1, 5)
        with supervised(state_dir, [("web", SLEEPS, 5)]):
            assert left_over.wait(10) != 0
            assert neighbour.poll() is None
    finally:
        for process in (left_over, neighbour):
            process.kill()
            process.wait()


def test_groups_stop_in_order_and_each_as_a_whole(state_dir: Path, tmp_path: Path) -> None:
    ends = tmp_path / "ends"
    names = [["web"], ["chat-1", "embed-1"], ["beat"], ["control"]]
    groups = [[(name, notes_its_end(ends, name), 5.0) for name in group] for group in names]
    with supervised(state_dir, *groups) as it:
        pids = [state.pid for state in read_state(state_dir).processes]
        it.send_signal(signal.SIGTERM)
        assert it.wait(20) == 0
        assert not any(is_alive(pid or 0) for pid in pids)
    order = ends.read_text().split()
    assert sorted(order) == sorted(name for group in names for name in group)
    assert [order[0], set(order[1:3]), *order[3:]] == [
        "web",
        {"chat-1", "embed-1"},
        "beat",
        "control",
    ]
    assert {state.state for state in read_state(state_dir).processes} == {"stopped"}


def test_nobody_is_refused_while_processes_restart_one_by_one(state_dir: Path) -> None:
    """Two share an address; one restarts, then the other, then both are away for a moment."""
    port = free_port()
    answers: list[str] = []

    def ask() -> str:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            return connection.recv(64).decode()

    with (
        supervised(state_dir, [(name, ANSWERS, 5, port) for name in ("web", "web-2")]),
        ThreadPoolExecutor(4) as pool,
    ):
        before = {process_state(state_dir, name).pid for name in ("web", "web-2")}
        restarting = pool.submit(restart, state_dir, ["web", "web-2"], lambda _line: None)
        while not restarting.done():
            answers += [each.result() for each in [pool.submit(ask) for _ in range(3)]]
        assert restarting.result() == 0
        after = {process_state(state_dir, name).pid for name in ("web", "web-2")}
        assert None not in after and not after & before
        for pid in after:
            os.kill(pid or 0, signal.SIGKILL)
        answers.append(ask())
    assert len(answers) > 20 and set(answers) <= {*map(str, before | after), answers[-1]}
    assert int(answers[-1]) not in before | after
    with pytest.raises(OSError, match="refused"):
        ask()


def test_process_deaf_to_sigterm_is_killed_in_time(state_dir: Path) -> None:
    with supervised(state_dir, [("deaf", DEAF, 0.5)]) as it:
        pid = process_state(state_dir, "deaf").pid
        began = time.monotonic()
        it.send_signal(signal.SIGINT)
        assert it.wait(20) == 0
        assert 0.5 <= time.monotonic() - began < 10
        assert not is_alive(pid or 0)


def test_second_ctrl_c_does_not_wait(state_dir: Path) -> None:
    with supervised(state_dir, [("deaf", DEAF, 60)]) as it:
        it.send_signal(signal.SIGINT)
        assert wait_until(lambda: process_state(state_dir, "deaf").state == "stopping", 5)
        it.send_signal(signal.SIGINT)
        assert it.wait(10) == 0


def test_one_supervisor_for_a_state_directory(state_dir: Path) -> None:
    assert get_lock_holder(state_dir) is None
    with supervised(state_dir, [("web", SLEEPS, 5)]) as it:
        assert take_lock(state_dir) is None
        assert get_lock_holder(state_dir) == it.pid
    assert get_lock_holder(state_dir) is None


def test_reaper_spares_the_caller_and_its_ancestors(state_dir: Path) -> None:
    code = (
        "import subprocess, sys\n"
        "from pathlib import Path\n"
        "from deploy.local.reaper import Mark, reap\n"
        f"print(reap(Mark(Path({str(state_dir)!r}))))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **Mark(state_dir, "r", "n").environment()},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert result.stdout.strip() == "[]"


def test_marks_survive_changed_process_titles(state_dir: Path) -> None:
    setproctitle = pytest.importorskip("setproctitle", reason="comes with the CPU extra")
    assert setproctitle
    code = "import setproctitle, time; setproctitle.setproctitle('VLLM::' + 'x' * 300); print('up', flush=True); time.sleep(600)"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, **Mark(state_dir, "r", "n").environment()},
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        assert [found.pid for found in find_marked(Mark(state_dir, "r"))] == [process.pid]
    finally:
        process.kill()
        process.communicate()
    assert not psutil.pid_exists(process.pid)
