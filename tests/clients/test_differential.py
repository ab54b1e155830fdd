"""Through the platform and from vLLM's own server: the same, but for what the page says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.local.files import free_port
from tests.clients.differential import FOLDED, REQUESTS, answer_of, differences, field_of
from tests.harness.platform import CHAT_MODEL, EMBEDDING_MODEL, Platform
from tests.harness.services import CHECKOUT
from workers.engines import cpu

PAGE = (CHECKOUT / "docs" / "differences.md").read_text()
READY_TIMEOUT_S = 240
# Two more engines start beside the platform's.
pytestmark = pytest.mark.timeout(600)
FAMILIES = {"/v1/chat/completions": "chat"}
# As the platform's replicas run them (``workers.engines.vllm``).
OPTIONS = {
    CHAT_MODEL: [
        "--dtype", cpu.dtype_for("auto"), "--max-model-len", "4096", "--enable-auto-tool-choice",
        "--tool-call-parser", "hermes", "--structured-outputs-config", '{"backend": "xgrammar"}',
    ],
    EMBEDDING_MODEL: [
        "--dtype", cpu.dtype_for("float32"), "--max-model-len", "256", "--runner", "pooling",
    ],
}  # fmt: skip
ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "TORCHDYNAMO_DISABLE": "1",
}
# (family, field) → what it is here, and there.
DECLARED = {
    (family, row[1]): (row[2].split(" or "), row[3].split(" or "))
    for row in re.findall(
        r"^\| ([\w, ]+) \| `(.+?)` \| ([\w ]+) \| ([\w ]+) \|", PAGE, re.MULTILINE
    )
    for family in row[0].split(", ")
}


@contextmanager
def served(model: str, path: Path, log: Path) -> Iterator[httpx.Client]:
    port = free_port()
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(path),
        "--served-model-name", model, "--host", "127.0.0.1", "--port", str(port),
        "--max-num-seqs", "16", "--enforce-eager", *OPTIONS[model],
    ]  # fmt: skip
    with log.open("wb") as output:
        # A group of its own: its engine would outlive it.
        process = subprocess.Popen(
            command, env=os.environ | ENVIRONMENT, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            _wait_until_ready(process, client, log)
            yield client
    finally:
        _end(process)


def _wait_until_ready(process: subprocess.Popen[bytes], client: httpx.Client, log: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if client.get("/health").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise AssertionError(f"vLLM's server did not start:\n{log.read_text()[-3_000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(20)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


@pytest.fixture(scope="module")
def found(live: Platform, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Any]:
    """Every field that differed, with the requests that showed it and what either said."""
    paths = dict(
        live.query(
            "SELECT m.name, v.path FROM inference_modelversion v "
            "JOIN inference_model m ON m.id = v.model_id"
        )
    )
    store, logs = Path(os.environ["MODEL_STORE"]), tmp_path_factory.mktemp("vllm")
    with ExitStack() as stack:
        starting = {model: served(model, store / paths[model], logs / model) for model in OPTIONS}
        with ThreadPoolExecutor(len(starting)) as threads:  # both import vLLM meanwhile
            theirs = dict(
                zip(starting, threads.map(stack.enter_context, starting.values()), strict=True)
            )
        return _compared(live, theirs)


def _compared(live: Platform, theirs: dict[str, httpx.Client]) -> dict[tuple[str, str], Any]:
    differing: dict[tuple[str, str], Any] = defaultdict(list)
    with live.http() as ours:
        for name, (path, asked) in REQUESTS.items():
            body = {field: value for field, value in asked.items() if value is not None}
            answers = [answer_of(each, path, body) for each in (ours, theirs[body["model"]])]
            family = FAMILIES.get(path, path.rpartition("/")[2])
            for at, here, there in differences(*answers):
                field = field_of(at, is_stream=bool(body.get("stream")))
                differing[family, field].append((name, here, there))
    return differing


def test_nothing_differs_that_the_page_does_not_name(found: dict[tuple[str, str], Any]) -> None:
    unknown = {place: shown for place, shown in found.items() if place not in DECLARED}
    assert unknown == {}


def test_each_difference_is_as_the_page_says(found: dict[tuple[str, str], Any]) -> None:
    for place, (here, there) in DECLARED.items():
        for name, ours, theirs in found.get(place, ()):
            assert _state_of(ours) in (*here, FOLDED), (place, name)
            assert _state_of(theirs) in (*there, FOLDED), (place, name)


def test_the_page_names_none_that_is_gone(found: dict[tuple[str, str], Any]) -> None:
    assert set(DECLARED) - set(found) == set()


def _state_of(value: Any) -> str:
    if value is None:
        return "null"
    return str(value) if value in ("absent", FOLDED) else "value"


def test_a_difference_is_noticed() -> None:
    """The comparison itself: by value, by type, by presence, by length."""
    same = {"a": [{"b": 1, "c": -0.5}], "d": None}
    assert list(differences(same, {"a": [{"b": 1, "c": -0.49}], "d": None})) == []
    for other, at in (
        ({"a": [{"b": 2, "c": -0.5}], "d": None}, "a[].b"),
        ({"a": [{"b": True, "c": -0.5}], "d": None}, "a[].b"),
        ({"a": [{"b": 1, "c": -0.8}], "d": None}, "a[].c"),
        ({"a": [{"b": 1, "c": -0.5}] * 2, "d": None}, "a"),
        ({"a": [{"b": 1, "c": -0.5}]}, "d"),
        ({**same, "e": 0}, "e"),
    ):
        assert [found for found, _, _ in differences(same, other)] == [at]
