"""A supervisor over small programs, run by the tests as a process of its own.

``python platform_of_dummies.py <state dir> <JSON: groups of [name, code, stop_timeout_s]>``;
a fourth element is a loopback port at which the supervisor listens for the program.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from deploy.local import files
from deploy.local.child import ProcessSpec
from deploy.local.state import take_lock
from deploy.local.supervisor import Supervisor

ROOT = Path(__file__).resolve().parent.parent.parent


def main() -> None:
    state_dir = Path(sys.argv[1])
    lock = take_lock(state_dir)
    assert lock is not None
    groups = [
        [
            ProcessSpec(
                name,
                (sys.executable, "-S", "-c", code),
                dict(os.environ),
                stop_timeout_s,
                tuple((files.LOOPBACK, port) for port in ports),
            )
            for name, code, stop_timeout_s, *ports in group
        ]
        for group in json.loads(sys.argv[2])
    ]
    asyncio.run(Supervisor(state_dir, groups, folder=ROOT).run())


main()
