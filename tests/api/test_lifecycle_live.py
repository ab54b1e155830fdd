"""Clients that hang up and workers that die, on the real engine."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import httpx
import pytest

from tests.harness.platform import CHAT_MODEL, Platform, wait_for

LONG = {
    "model": CHAT_MODEL,
    "messages": [{"role": "user", "content": "Count upwards for ever."}],
    "max_tokens": 1500,
    "temperature": 0,
    "ignore_eos": True,
}


@pytest.mark.parametrize("is_stream", [True, False])
def test_a_client_that_hangs_up_frees_the_engine(live: Platform, is_stream: bool) -> None:
    def aborted() -> float:
        return live.worker_metric("chat-1", "sluice_replica_aborted_sequences_total")

    before, request_id = aborted(), ""
    # Not streaming, nothing comes for long: the client gives up by itself.
    timeout = httpx.Timeout(30) if is_stream else httpx.Timeout(30, read=1.5)
    try:
        with (
            live.http() as client,
            client.stream(
                "POST", "/v1/chat/completions", json={**LONG, "stream": is_stream}, timeout=timeout
            ) as response,
        ):
            request_id = response.headers["x-request-id"]
            next(response.iter_lines())
    except httpx.ReadTimeout:
        assert not is_stream
    wait_for(lambda: aborted() > before, 5)
    wait_for(lambda: live.worker_metric("chat-1", "vllm:num_requests_running") == 0, 5)
    if is_stream:
        status, made = live.usage_row(request_id, "status, completion_tokens")
        assert status == "cancelled"
        assert 0 < made < 1500  # what was made is billed, and no more


def test_a_killed_worker_comes_back_by_itself_and_its_stream_goes_on(live: Platform) -> None:
    """The one chat replica dies under a stream; the client waits, and misses nothing."""
    client = live.openai()
    # Counting leaves no near ties: a continuation computes its first token by prefill
    # and not by decode, whose bfloat16 sums differ in the last bit.
    options: dict[str, Any] = {
        "model": CHAT_MODEL,
        "prompt": " ".join(map(str, range(1, 60))),
        "temperature": 0,
        "max_tokens": 160,
        "extra_body": {"ignore_eos": True},
    }
    expected = client.completions.create(**options).choices[0].text

    texts: list[str] = []
    usage: list[int] = []

    def read() -> None:
        stream_options = {"include_usage": True}
        for chunk in client.completions.create(
            **options, stream=True, stream_options=stream_options, timeout=200
        ):
            if chunk.choices:
                texts.append(chunk.choices[0].text)
            else:
                usage.append(chunk.usage.completion_tokens)

    reader = threading.Thread(target=read)
    reader.start()
    wait_for(lambda: len(texts) > 20, 60)
    killed = live.pid("chat-1")
    os.kill(killed, signal.SIGKILL)
    killed_at = time.monotonic()
    wait_for(lambda: live.pid("chat-1") not in (0, killed), 20)
    reader.join(180)
    assert not reader.is_alive()
    assert "".join(texts) == expected
    assert usage == [160]
    assert time.monotonic() - killed_at < 180

    # Nothing of the dead worker is left: vLLM's own processes went with it.
    assert _processes_marked(killed) == []


def _processes_marked(session: int) -> list[int]:
    """Live processes of a session (the dead worker led its own)."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.getsid(int(entry)) == session:
                    found.append(int(entry))
            except ProcessLookupError:
                continue
    return found


def test_an_idle_worker_killed_is_back_by_itself(live: Platform) -> None:
    killed = live.pid("embed-1")
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: live.pid("embed-1") not in (0, killed), 20)
    wait_for(lambda: httpx.get(f"{live.url}/readyz", timeout=5).status_code == 200, 150, 0.5)
    answer = live.openai().embeddings.create(model="all-minilm-l6-v2", input="still here")
    assert len(answer.data[0].embedding) == 384
