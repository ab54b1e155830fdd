"""A profile of a running replica, as the simulated engine takes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from prometheus_client import generate_latest

from inference.engine_protocol import Step
from workers.engine import metrics, probe
from workers.engine.speed import Speed
from workers.engines.simulated import Profile
from workers.management.commands.measure_profile import read_profile

PROFILE = Profile(prefill_tokens_per_s=4_000, decode_ms=18.0, decode_ms_per_running=0.6)


@pytest.fixture
def measured() -> Iterator[None]:
    """The replica's gauges, as its host sets them with every heartbeat."""
    speed = Speed()
    for running in (1, 8, 64):
        for _ in range(50):
            speed.learn(Step(PROFILE.decode_s(running), [str(each) for each in range(running)]))
            speed.learn(Step(PROFILE.prefill_s(500), (), {"x": 500}, 500))
    gauges = (metrics.PREFILL_SPEED, metrics.DECODE_BASE, metrics.DECODE_SLOPE)
    found = speed.profile
    values = (found.prefill_tokens_per_s, found.decode_ms / 1e3, found.decode_ms_per_running / 1e3)
    for gauge, value in zip(gauges, values, strict=True):
        gauge.set(value)
    yield
    for gauge in gauges:
        gauge.set(0)


def test_the_simulated_engine_takes_what_was_measured(measured: None, tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(read_profile(generate_latest().decode()).as_dict()))

    found = Profile.load(str(path))
    assert found.prefill_tokens_per_s == pytest.approx(4_000, rel=0.02)
    assert found.decode_ms == pytest.approx(18.0, rel=0.02)
    assert found.decode_ms_per_running == pytest.approx(0.6, rel=0.02)


class Ready:
    state = "ready"


def test_the_command_reads_a_workers_page(
    measured: None, tmp_path: Path, unused_tcp_port: int
) -> None:
    probe.serve(Ready(), "127.0.0.1", unused_tcp_port)
    path = tmp_path / "profile.json"
    call_command("measure_profile", f"http://127.0.0.1:{unused_tcp_port}/metrics", out=path)

    assert Profile.load(str(path)).decode_ms == pytest.approx(18.0, rel=0.02)


def test_an_idle_replica_has_no_profile() -> None:
    with pytest.raises(CommandError, match="nothing yet"):
        read_profile(generate_latest().decode())


@pytest.mark.parametrize("address", ["file:///etc/hostname", "http://127.0.0.1:9/metrics"])
def test_what_cannot_be_read_is_said(address: str) -> None:
    with pytest.raises(CommandError):
        call_command("measure_profile", address)


def test_the_profile_kept_in_the_repository_loads() -> None:
    from tests.harness.services import CHECKOUT

    for path in (CHECKOUT / "benchmarks" / "profiles").glob("*.json"):
        assert not Profile.load(str(path)).is_instant, path.name
