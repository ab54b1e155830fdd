"""A pytest plugin (``-p tests.harness.services``) that starts PostgreSQL and Valkey.

A plugin and not a conftest, because pytest-django reads the settings before any
conftest is imported, and the settings need to know where the databases are. The
servers live in a temporary folder and end with the run. ``DATABASE_URL`` and
``REDIS_URL``, when set, are used instead.

Beside others (pytest-xdist) each worker has servers of its own: tests empty Redis and
listen on PostgreSQL's channels as if they were alone. The process that only hands the
tests out starts none.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path
from unittest import mock

import pytest

from deploy.local import postgres
from deploy.local.services import ALL, Service, embedded
from tenants.scope import Login, Scope, set_process_scope

# Found before SLUICE_STATE_DIR is pointed at the temporary folder: converting
# weights takes half a minute, so the suite shares the checkout's store.
CHECKOUT = Path(__file__).resolve().parents[2]
PARENT = "SLUICE_TESTS_DIR"
# Rows of a run that ends with its machine need not outlive it: a transactional test
# that waits for the disk takes seconds instead of a twentieth of one.
FORGETFUL = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

# Tests arrange and look as the owner of the tables; what they call through a door acts
# in the scope that the door enters.
set_process_scope(Scope(login=Login.OWNER))


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    """Before pytest-django's hook of this name, which reads the settings."""
    # Of workers within the folder of who started them, who tidies up after a broken-off run.
    folder = Path(tempfile.mkdtemp(prefix="sluice-tests-", dir=os.environ.get(PARENT)))
    folder.chmod(0o755)  # PostgreSQL runs as another user when the suite runs as root
    os.environ["SLUICE_ENV"] = "test"
    # Identity providers and receivers of webhooks in tests listen on loopback.
    os.environ["OUTBOUND_PRIVATE_NETWORKS"] = "127.0.0.0/8"
    os.environ.setdefault("MODEL_STORE", str(CHECKOUT / ".sluice" / "models"))
    os.environ["SLUICE_STATE_DIR"] = str(folder)
    os.environ.setdefault("LOG_FORMAT", "console")
    chosen = embedded()
    if _only_hands_tests_out(early_config):
        chosen, os.environ[PARENT] = [], str(folder)
    # For runs that break off, too; stopping twice does nothing.
    atexit.register(_stop, chosen, folder)
    early_config.add_cleanup(lambda: _stop(chosen, folder))
    with mock.patch.dict(postgres.SETTINGS, FORGETFUL):
        for service in chosen:
            os.environ[service.variable] = service.start(folder)
    return (yield)


def _only_hands_tests_out(config: pytest.Config) -> bool:
    is_parallel = bool(getattr(config.known_args_namespace, "numprocesses", None))
    return is_parallel and "PYTEST_XDIST_WORKER" not in os.environ


def _stop(chosen: list[Service], folder: Path) -> None:
    for left in folder.glob("sluice-tests-*"):  # workers that were killed
        _stop(list(ALL), left)
    for service in reversed(chosen):
        service.stop(folder)
    postgres.remove(folder)
    shutil.rmtree(folder, ignore_errors=True)
