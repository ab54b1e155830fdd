"""Callers of the management API, one for each organization of the cast."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.conf import settings

from tests.api.management import Caller
from tests.cast import Cast


@pytest.fixture(scope="session", autouse=True)
def static_folder() -> None:
    """WhiteNoise warns about a missing one; `collectstatic` makes it in an installation."""
    Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)


@pytest.fixture
def owner(cast: Cast) -> Caller:
    return Caller(cast.owner_admin_key)


@pytest.fixture
def stranger(cast: Cast) -> Caller:
    return Caller(cast.stranger_admin_key)
