from __future__ import annotations

import pytest

from tests.api.management import Caller
from tests.cast import Cast
from tests.portal.conftest import empty_rate_limits, static_folder  # noqa: F401 - fixtures
from tests.tenants.conftest import link  # noqa: F401


@pytest.fixture
def owner(cast: Cast) -> Caller:
    """The organization's owner as a program."""
    return Caller(cast.owner_admin_key)
