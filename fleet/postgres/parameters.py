"""Turns the address of a Postgres server into libpq parameters, and into an entry of Django's DATABASES.

The fleet detects a dead route after 14 s instead of the two hours of the kernel's defaults. Parameters in DATABASE_URL
override these: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS.

PgBouncer in transaction mode refuses `options`, because they belong to a session. What the fleet needs of them is in the
configuration of PgBouncer (deploy/pgbouncer.ini) and in the hot path's transactions (fleet/postgres/hot_path.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.db import connections

from fleet.config.datastores import Postgres

_DEFAULTS = {
    "keepalives_idle": "5",
    "keepalives_interval": "3",
    "keepalives_count": "3",
    "tcp_user_timeout": "14000",
}
_SESSION_OPTIONS = {"options": "-c idle_in_transaction_session_timeout=60s"}
# What Django adds for psycopg, and the name of Django's own connections.
_DJANGO_ONLY = {"cursor_factory", "context", "prepare_threshold", "server_side_binding", "application_name"}


def for_django(
    server: Postgres, *, connect_timeout_s: int, application_name: str, pool: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the part of an entry of DATABASES that describes the server: its address, and the OPTIONS for libpq."""
    return {
        "HOST": server.host,
        "PORT": server.port,
        "USER": server.user,
        "PASSWORD": server.password,
        "NAME": server.name,
        "DISABLE_SERVER_SIDE_CURSORS": server.pooled,  # they belong to a session
        "OPTIONS": {
            **_options(server, connect_timeout_s=connect_timeout_s, application_name=application_name),
            **pool,
        },
    }


def for_libpq(server: Postgres, *, connect_timeout_s: int, application_name: str) -> dict[str, Any]:
    """Return the parameters with which psycopg connects to a server."""
    return {
        "host": server.host,
        "port": server.port,
        "user": server.user,
        **({"password": server.password} if server.password else {}),
        "dbname": server.name,
        **_options(server, connect_timeout_s=connect_timeout_s, application_name=application_name),
    }


def unpooled(*, application_name: str) -> dict[str, Any]:
    """Return the parameters for a connection that bypasses any pooler: LISTEN and session locks need a session."""
    direct = settings.FLEET_ENDPOINTS.direct
    if direct is None:
        return from_django(application_name=application_name)
    return for_libpq(
        direct,
        connect_timeout_s=settings.FLEET_POSTGRES_TIMEOUT_S,
        application_name=f"fleet {application_name}"[:63],
    )


def from_django(*, application_name: str) -> dict[str, Any]:
    """Return the parameters for a psycopg connection to the database of Django's default connection.

    `application_name` is shown in pg_stat_activity. The audit trail recognises the fleet's connections by it.
    """
    parameters = connections["default"].get_connection_params()
    return {
        **{name: value for name, value in parameters.items() if name not in _DJANGO_ONLY},
        "application_name": f"fleet {application_name}"[:63],
    }


def _options(server: Postgres, *, connect_timeout_s: int, application_name: str) -> dict[str, str]:
    return {
        "connect_timeout": str(connect_timeout_s),
        **_DEFAULTS,
        **({} if server.pooled else _SESSION_OPTIONS),
        **server.options,
        "application_name": application_name,
    }
