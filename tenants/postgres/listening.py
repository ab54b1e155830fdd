"""Connections beside Django's, which follow a NOTIFY channel."""

from __future__ import annotations

from typing import Any

from django.conf import settings

from tenants.scope import Login


def listener_parameters() -> dict[str, Any]:
    """What psycopg connects with: the login of this process that may do the least.

    LISTEN needs no right on any table, and notices name rows and show none.
    """
    database: dict[str, Any] = settings.DATABASES["default"]
    logins: dict[str, dict[str, str]] = database.get("LOGINS", {})
    least = next((logins[role] for role in (Login.WEB, Login.STAFF) if role in logins), {})
    parameters = {
        "dbname": database["NAME"],
        "user": database["USER"],
        "password": database["PASSWORD"],
        "host": database["HOST"],
        "port": database["PORT"],
        "connect_timeout": int(settings.DATABASE_TIMEOUT_S) or 1,
        # A cut network must show as a lost connection within seconds.
        "keepalives_idle": 2,
        "keepalives_interval": 1,
        "keepalives_count": 3,
    }
    return {name: value for name, value in (parameters | least).items() if value not in ("", None)}
