"""Connection pools for processes with many threads (psycopg's pool): a thread borrows a connection and returns it.

The web process has a pool from its start. An agent creates a small one after its fork (`share`), for what its slots
read before and after a driver runs. It cannot inherit one, because the node forks and must have only one thread. All
other processes use one connection per thread.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import connections

from fleet import postgres

WEB = "web"
MIN_SIZE = 2
TIMEOUT_S = 5  # how long a request waits for a connection before it fails as if Postgres were down
IDLE_S = 300  # an unused connection is closed after this time
LIFE_S = 3_600
SLOT_CONNECTIONS = 2  # connections that all slots of an agent share
# Plus those of its committer, its lease renewer and its output writer: docs/agents.md.
CONNECTIONS_PER_AGENT = SLOT_CONNECTIONS + 3


def options(*, process: str, max_size: int) -> dict[str, Any]:
    """Return the pool for the OPTIONS of DATABASES; see https://www.psycopg.org/psycopg3/docs/api/pool.html."""
    if process != WEB or not max_size:
        return {}
    return {"pool": _parameters(min_size=min(MIN_SIZE, max_size), max_size=max_size, name="web")}


def share() -> None:
    """Make all threads of an agent share SLOT_CONNECTIONS connections. Call it before the first query."""
    connections["default"].settings_dict["OPTIONS"]["pool"] = _parameters(
        min_size=0, max_size=SLOT_CONNECTIONS, name="slots"
    )


def site_connections() -> int:
    """Return the number of connections that all web processes together may open."""
    size = settings.FLEET_WEB_POOL or settings.FLEET_WEB_CONCURRENCY + MIN_SIZE
    return settings.FLEET_WEB_WORKERS * size


def _parameters(*, min_size: int, max_size: int, name: str) -> dict[str, Any]:
    return {
        "connection_class": postgres.Connection,
        "min_size": min_size,
        "max_size": max_size,
        "timeout": TIMEOUT_S,
        "reconnect_timeout": TIMEOUT_S,  # the pool retries with growing pauses this long; then each request retries
        "max_idle": IDLE_S,
        "max_lifetime": LIFE_S,
        "name": name,
    }
