"""Postgres's connections in the web process are pooled (psycopg's own pool): a request takes one and gives it back.

Only there. An agent or a control loop keeps one connection for itself, and what forks may not have a pool's threads. Django
refuses a pool beside CONN_MAX_AGE, which we do not set.
"""

from __future__ import annotations

from typing import Any

from fleet import postgres

WEB = "web"
LEAST = 2
PATIENCE_S = 5  # that a request waits for a connection before it is answered that Postgres is away
IDLE_S = 300  # after which a connection that nobody needs is closed
LIFE_S = 3_600


def options(*, process: str, most: int) -> dict[str, Any]:
    """For DATABASES' OPTIONS; see https://www.psycopg.org/psycopg3/docs/api/pool.html."""
    if process != WEB or not most:
        return {}
    return {
        "pool": {
            "connection_class": postgres.Connection,
            "min_size": min(LEAST, most),
            "max_size": most,
            "timeout": PATIENCE_S,
            "reconnect_timeout": PATIENCE_S,  # it tries less and less often, up to this; then each request tries at once
            "max_idle": IDLE_S,
            "max_lifetime": LIFE_S,
            "name": "web",
        }
    }
