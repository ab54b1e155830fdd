"""What runs in the containers of ``docker-compose.yml`` beside the platform itself.

``setup`` prepares the databases once, ``replica`` names and starts an engine worker,
``healthcheck`` asks a process whether it is ready, ``make_env`` writes the ``.env`` on
the host (standard library only: the host needs nothing of ours installed).
"""
