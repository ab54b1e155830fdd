"""A Valkey of a test's own, that may die."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

from deploy.local import valkey
from deploy.local.processes import is_alive, wait_until


class OwnValkey:
    def __init__(self, folder: Path):
        self.folder = folder
        self.url = valkey.start(folder)

    def kill(self, *, loses_data: bool = True) -> None:
        """kill -9; returns when it is gone."""
        pid = valkey.pid(self.folder)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert wait_until(lambda: not is_alive(pid), 10, 0.01)
        if loses_data:
            for each in (self.folder / "valkey").glob("appendonlydir*"):
                shutil.rmtree(each)

    def restart(self) -> None:
        valkey.start(self.folder, may_move=False)

    def stop(self) -> None:
        valkey.stop(self.folder)
