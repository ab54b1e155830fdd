"""Callers of the management API, one for each organization of the cast."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from tests.api.management import Caller
from tests.cast import Cast
from tests.harness.platform import Platform


@pytest.fixture(scope="session", autouse=True)
def static_folder() -> None:
    """WhiteNoise warns about a missing one; `collectstatic` makes it in an installation."""
    Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)


# Of `unhurried`: how long it waits for readers, sockets of a key, and seconds that one may idle.
GRACE_S, MOST_SOCKETS, IDLE_S = 3.0, 12, 8.0


@pytest.fixture(scope="session")
def unhurried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Two gateways, and an engine that takes 30 ms a token: for what happens in the midst of
    answers."""
    profile = tmp_path_factory.mktemp("profile") / "profile.json"
    profile.write_text(json.dumps({"prefill_tokens_per_s": 20_000, "decode_ms": 30.0}))
    platform = Platform(
        ENGINE="simulated",
        CHAT_REPLICAS="1",
        WEB_PROCESSES="2",
        SIMULATED_PROFILE=str(profile),
        RESUME_GRACE_S=str(GRACE_S),
        WEBSOCKET_MAX_PER_KEY=str(MOST_SOCKETS),
        WEBSOCKET_IDLE_S=str(IDLE_S),
    )
    try:
        yield platform.start()
    finally:
        platform.stop()


@pytest.fixture
def owner(cast: Cast) -> Caller:
    return Caller(cast.owner_admin_key)


@pytest.fixture
def stranger(cast: Cast) -> Caller:
    return Caller(cast.stranger_admin_key)
