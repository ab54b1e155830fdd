"""Which tests stay together when several processes share the suite (``-n``, pytest-xdist).

A file's tests do, and the files that start the platform or a real engine do: each
platform is started once, and beside one process that waits for vLLM the others have the
machine's remaining cores, so that what is measured in real time stays as it was.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from functools import cache

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.harness.services import CHECKOUT

PLATFORM = "platform"
# What a file says that starts one, or lets the fixtures ``live`` and ``simulated`` do it.
_STARTS_ONE = re.compile(
    r": Platform\b|\bPlatform\(|tests\.workers\.real_engine|tests\.chaos\.ground"
    r"|tests\.clients\.conftest"
)
# What takes longest goes first, so that no process is left alone with it at the end.
LONG_FIRST = (PLATFORM,)


@cache
def group_of(path: str) -> str:
    """Of a test file's path in the checkout."""
    text = (CHECKOUT / path).read_text()
    return PLATFORM if _STARTS_ONE.search(text) else path


class Together(LoadScopeScheduling):
    """Hands out groups, in the order in which they were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid.partition("::")[0])


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Together:
    config.option.loadscopereorder = False
    return Together(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None]:
    """After pytest-django's, whose order (how a test uses the database) holds in each group."""
    yield
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _turn(group_of(item.nodeid.partition("::")[0])))


def _turn(group: str) -> int:
    return LONG_FIRST.index(group) if group in LONG_FIRST else len(LONG_FIRST)
