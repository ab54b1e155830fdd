"""``python -m deploy.local up | down | restart | status | logs``; the Makefile calls it."""

from __future__ import annotations

import argparse
import sys
import time

from deploy.local import files, logs
from deploy.local.down import down
from deploy.local.files import LocalError
from deploy.local.restart import restart
from deploy.local.status import render_status
from deploy.local.up import BASE_DIR, supervise, up


def main() -> int:
    arguments = _parse()
    state_dir = files.state_dir_of(BASE_DIR)
    try:
        if arguments.command == "up":
            # A script goes on with the next line once it is ready; a person at a terminal
            # sees the logs and stops everything with Ctrl-C.
            is_script = not sys.stdout.isatty()
            is_detached = is_script if arguments.detach is None else arguments.detach
            return up(state_dir, is_detached=is_detached)
        if arguments.command == "down":
            return down(state_dir)
        if arguments.command == "restart":
            return restart(state_dir, arguments.names)
        if arguments.command == "logs":
            return logs.show_logs(state_dir, arguments.names, arguments.lines, arguments.follow)
        if arguments.command == "supervise":
            return supervise(state_dir, arguments.lock, arguments.embedded)
        print("\n".join(render_status(state_dir, time.time())))
        return 0
    except LocalError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    starting = commands.add_parser("up", help="start everything and wait for a first answer")
    starting.add_argument(
        "--detach",
        action=argparse.BooleanOptionalAction,
        help="return once it is ready; by default only where no terminal is attached",
    )
    commands.add_parser("down", help="stop everything")
    restarting = commands.add_parser("restart", help="restart one process after another")
    restarting.add_argument("names", nargs="*", help="processes; all if none is named")
    commands.add_parser("status", help="a line a process")
    showing = commands.add_parser("logs", help="the end of the logs")
    showing.add_argument("names", nargs="*", help="processes; all if none is named")
    showing.add_argument("-n", "--lines", type=int, default=40)
    showing.add_argument("-f", "--follow", action="store_true")
    hidden = commands.add_parser("supervise")
    hidden.add_argument("lock", type=int)
    hidden.add_argument("embedded", nargs="*")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
