"""The small parts of the one-machine platform: files, logs, plans, status lines."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from config.env import read_env_file
from deploy.local import backoff, banner, files, logs, programs, ready, runtime_env
from deploy.local.files import LocalError
from deploy.local.state import PlatformState, ProcessState, read_state, take_lock, write_state
from deploy.local.status import render_status


def test_runtime_env_is_private_and_keeps_its_secrets(tmp_path: Path) -> None:
    first = runtime_env.write_runtime_env(tmp_path, {"SLUICE_URL": "http://127.0.0.1:8000"})
    path = tmp_path / "runtime.env"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secrets = [first[name] for name in runtime_env.SECRETS]
    assert {len(secret) for secret in secrets} == {64}
    assert len(set(secrets)) == len(runtime_env.SECRETS)
    second = runtime_env.write_runtime_env(tmp_path, {"SLUICE_URL": "http://127.0.0.1:8100"})
    assert [second[name] for name in runtime_env.SECRETS] == secrets
    assert read_env_file(path) == second
    assert second["SLUICE_URL"] == "http://127.0.0.1:8100"


def test_environment_wins_over_runtime_env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "from the operator")
    monkeypatch.delenv("API_KEY_PEPPER", raising=False)
    values = runtime_env.write_runtime_env(tmp_path, {})
    environment = runtime_env.child_environment(tmp_path, values)
    assert environment["SECRET_KEY"] == "from the operator"
    assert environment["API_KEY_PEPPER"] == values["API_KEY_PEPPER"]
    assert "from the operator" not in (tmp_path / "runtime.env").read_text()


def test_private_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    files.write_private(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["secret"]


def test_remembered_port_stays_until_it_is_taken(tmp_path: Path) -> None:
    import socket

    port = files.remembered_port(tmp_path, "chat-1")
    assert files.remembered_port(tmp_path, "chat-1") == port
    assert files.remembered_port(tmp_path, "embed-1") != port
    with socket.create_server(("127.0.0.1", port)):
        assert files.remembered_port(tmp_path, "chat-1") != port


def test_backoff_doubles_is_capped_and_forgets_after_a_good_run() -> None:
    delays = backoff.Backoff()
    waits = [delays.after_run(0.1) for _ in range(40)]
    assert waits[0] <= backoff.FIRST_S
    assert all(backoff.CAP_S / 2 <= wait <= backoff.CAP_S for wait in waits[10:])
    assert len(set(waits[10:])) > 1, "jitter"
    assert delays.after_run(backoff.STABLE_S) <= backoff.FIRST_S


def test_log_file_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "web.log"
    file = logs.RotatingFile(path, max_bytes=1000)
    for number in range(1000):
        file.write_line(f"line {number:04}".encode())
    file.close()
    kept = sorted(path.parent.iterdir())
    assert [entry.name for entry in kept] == ["web.log", "web.log.1", "web.log.2", "web.log.3"]
    assert all(entry.stat().st_size <= 1000 for entry in kept)
    assert logs.tail(path, 1) == ["line 0999"]


def test_log_of_a_daemon_is_emptied_in_place(tmp_path: Path) -> None:
    path = tmp_path / "postgres.log"
    with path.open("ab") as daemon:
        daemon.write(b"x" * 2000)
        daemon.flush()
        logs.trim_in_place(path, max_bytes=1000)
        daemon.write(b"y\n")
    assert path.read_bytes() == b"y\n"
    assert (tmp_path / "postgres.log.1").stat().st_size == 2000


def test_lines_are_cut_where_they_end_or_grow_too_long() -> None:
    lines = logs.Lines()
    assert lines.feed(b"one\ntw") == [b"one"]
    assert lines.feed(b"o\r\n") == [b"two"]
    long = lines.feed(b"x" * (logs.MAX_LINE_BYTES + 10))
    assert [len(piece) for piece in long] == [logs.MAX_LINE_BYTES]
    assert lines.finish() == [b"x" * 10]
    assert lines.finish() == []


def test_console_prefixes_lines_and_colours_only_a_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    plain, terminal = io.StringIO(), Terminal()
    for stream in (plain, terminal):
        logs.Console(["web", "chat-1"], stream).show("web", "hello")
    assert plain.getvalue() == "web    | hello\n"
    assert terminal.getvalue().startswith("\x1b[")


def test_processes_stop_from_the_client_inwards(tmp_path: Path) -> None:
    choices = programs.Choices(port=8100, chat_replicas=2)
    groups = programs.plan_processes(tmp_path, choices, {"ENGINE": "simulated"})
    names = [[spec.name for spec in group] for group in groups]
    assert names == [["web", "batch"], ["chat-1", "chat-2", "embed-1"], ["beat"], ["control"]]
    chat = groups[1][1]
    assert chat.environment["REPLICA_ID"] == "chat-2"
    assert chat.environment["REPLICA_DEPLOYMENT"] == "smollm2-135m-instruct"
    assert chat.environment["ENGINE"] == "simulated"
    assert "replica.chat-2" in chat.command
    ports = {spec.environment.get("WORKER_METRICS_PORT") for spec in groups[1]}
    assert len(ports) == 3 and None not in ports


def test_a_model_of_ones_own_is_served_in_place_of_the_default_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAT_MODEL", "hf://meta/Llama-3.1-8B@main")
    monkeypatch.setenv("CHAT_OPTIONS", '{"tensor_parallel_size": 2}')
    monkeypatch.setenv("CHAT_RUNNING", "256")
    choices = programs.read_choices()
    groups = programs.plan_processes(tmp_path, choices, {})
    assert [(spec.name, spec.environment["REPLICA_DEPLOYMENT"]) for spec in groups[1]] == [
        ("chat-1", "llama-3-1-8b")
    ]
    assert choices.pull == (
        *("pull_model", "hf://meta/Llama-3.1-8B@main", "--model", "llama-3-1-8b"),
        *("--kind", "chat", "--engine-options", '{"tensor_parallel_size": 2}'),
    )
    assert choices.demo == ("create_demo", "--model", "llama-3-1-8b", "--running", "256")
    assert [probe.path for probe in ready.probes(choices)] == ["/readyz", "/v1/chat/completions"]


@pytest.mark.parametrize("raw", ["{", "[1]", "yes"])
def test_engine_options_that_are_no_object_are_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, raw: str
) -> None:
    monkeypatch.setenv("CHAT_OPTIONS", raw)
    with pytest.raises(LocalError, match="CHAT_OPTIONS="):
        programs.read_choices()


@pytest.mark.parametrize("raw", ["0", "65536", "-1", "eight", "80.5", "²"])
def test_bad_port_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, raw: str) -> None:
    monkeypatch.setenv("PORT", raw)
    with pytest.raises(LocalError, match=f"PORT={raw}"):
        programs.read_choices()


def test_status_has_a_line_a_process(tmp_path: Path) -> None:
    assert render_status(tmp_path, 0.0) == ["Sluice is not running."]
    processes = [
        ProcessState("postgres", os.getpid(), "running", 1000.0, 1),
        ProcessState("web", 2**22 + 1, "running", 1000.0, 3),
        ProcessState("chat-1", None, "restarting", 4000.0, 2, "killed by SIGKILL"),
    ]
    write_state(tmp_path, PlatformState(os.getpid(), "http://127.0.0.1:8100", True, processes))
    assert read_state(tmp_path).processes == processes
    lock = take_lock(tmp_path)
    assert lock is not None
    try:
        head, columns, *lines = render_status(tmp_path, 4600.0)
    finally:
        os.close(lock)
    assert head.startswith("Sluice is ready at http://127.0.0.1:8100")
    assert columns.split() == ["NAME", "PID", "STATE", "SINCE"]
    assert lines[0].split()[:3] == ["postgres", str(os.getpid()), "running"]
    assert lines[0].endswith("(1 h)")
    assert lines[1].split()[:3] == ["web", "-", "dead"]
    assert lines[2].split()[:3] == ["chat-1", "-", "restarting"]
    assert lines[2].endswith("started 2 times killed by SIGKILL")


def test_damaged_state_file_is_no_obstacle(tmp_path: Path) -> None:
    for text in ("", "{", "[]", '{"unknown": 1}'):
        (tmp_path / "supervisor.json").write_text(text)
        assert read_state(tmp_path) == PlatformState()


def test_banner_shows_no_secret_and_quotes_paths(tmp_path: Path) -> None:
    folder = tmp_path / "a clone"
    folder.mkdir()
    files.write_private(folder / "demo.env", "export OPENAI_API_KEY=sk-proj-secret\n")
    text = banner.render_banner(
        folder, "http://127.0.0.1:8100", is_simulated=True, is_detached=False
    )
    assert "sk-proj-secret" not in text
    assert f". '{folder}/demo.env'" in text
    assert "http://127.0.0.1:8100/admin/" in text
    assert "simulated" in text


def test_snippets_are_valid_as_pasted(tmp_path: Path) -> None:
    text = banner.render_banner(
        tmp_path, "http://127.0.0.1:8100", is_simulated=False, is_detached=True
    )
    snippet = text[text.index("\n. ") :].rstrip().rpartition("\n\n")[0]
    curl, _, python = snippet.partition("or with the openai package:")
    for shell in (curl, python):
        subprocess.run(["bash", "-n", "-c", shell], check=True, timeout=10)
    compile(python.split("-c '")[1].split("\n'")[0], "snippet", "exec")
    body = curl.split("-d '")[1].rsplit("'", 1)[0]
    assert json.loads(body)["stream"] is True
