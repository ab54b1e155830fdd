"""``python -m deploy.docker.replica``: becomes the engine worker of this container.

Two replicas of one name would share a queue and overwrite each other's heartbeats. So
unless ``REPLICA_ID`` says otherwise a replica is called after its deployment and its
container, and a service may be scaled.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping


def replica_name(environment: Mapping[str, str], hostname: str) -> str:
    """``REPLICA_ID``, or one made of deployment and container. ``SystemExit`` without either."""
    if name := environment.get("REPLICA_ID"):
        return name
    deployment = environment.get("REPLICA_DEPLOYMENT")
    if not deployment:
        sys.exit("REPLICA_DEPLOYMENT is unset: which deployment shall this replica serve?")
    # Replica.name has 80 characters; the end of the hostname tells containers apart.
    return f"{deployment[:60]}-{hostname[-12:]}"


def worker_command(name: str) -> tuple[str, ...]:
    return (
        sys.executable, "-m", "celery", "-A", "config.celery", "worker",
        "-P", "solo", "-Q", f"replica.{name}", "-n", f"{name}@%h",
        "--without-gossip", "--without-mingle", "--without-heartbeat",
    )  # fmt: skip


def main() -> None:
    name = replica_name(os.environ, socket.gethostname())
    os.environ["REPLICA_ID"] = name
    os.execv(sys.executable, worker_command(name))


if __name__ == "__main__":
    main()
