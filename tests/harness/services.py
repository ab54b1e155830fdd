"""A pytest plugin (``-p tests.harness.services``) that starts PostgreSQL and Valkey.

A plugin and not a conftest, because pytest-django reads the settings before any
conftest is imported, and the settings need to know where the databases are. The
servers live in a temporary folder and end with the run. ``DATABASE_URL`` and
``REDIS_URL``, when set, are used instead.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from deploy.local import postgres
from deploy.local.services import embedded
from tenants.scope import Login, Scope, set_process_scope

# Found before SLUICE_STATE_DIR is pointed at the temporary folder: converting
# weights takes half a minute, so the suite shares the checkout's store.
CHECKOUT = Path(__file__).resolve().parents[2]


def _start() -> None:
    folder = Path(tempfile.mkdtemp(prefix="sluice-tests-"))
    folder.chmod(0o755)  # PostgreSQL runs as another user when the suite runs as root
    os.environ["SLUICE_ENV"] = "test"
    os.environ.setdefault("MODEL_STORE", str(CHECKOUT / ".sluice" / "models"))
    os.environ["SLUICE_STATE_DIR"] = str(folder)
    os.environ.setdefault("LOG_FORMAT", "console")
    chosen = embedded()
    for service in chosen:
        os.environ[service.variable] = service.start(folder)

    def stop() -> None:
        for service in reversed(chosen):
            service.stop(folder)
        postgres.remove(folder)
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(stop)


# Tests arrange and look as the owner of the tables; what they call through a door acts
# in the scope that the door enters.
set_process_scope(Scope(login=Login.OWNER))

if "SLUICE_TEST_SERVICES" not in os.environ:
    os.environ["SLUICE_TEST_SERVICES"] = "1"
    _start()
