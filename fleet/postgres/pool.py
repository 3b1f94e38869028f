"""Postgres's connections of a process with many threads are pooled (psycopg's own pool): a thread takes one and gives it back.

The web process has a pool from its start. An agent makes a small one when it has been forked (`share`), for what its slots
read before and after a driver works; it is forked from its node, which may not have a pool's threads. All other
processes keep one connection for themselves. Django refuses a pool beside CONN_MAX_AGE, which we do not set.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import connections

from fleet import postgres

WEB = "web"
LEAST = 2
PATIENCE_S = 5  # that a request waits for a connection before it is answered that Postgres is away
IDLE_S = 300  # after which a connection that nobody needs is closed
LIFE_S = 3_600
OF_SLOTS = 2  # connections that all slots of an agent share
OF_AGENT = OF_SLOTS + 3  # and those of its committer, its renewer and its scribe: docs/agents.md


def options(*, process: str, most: int) -> dict[str, Any]:
    """For DATABASES' OPTIONS; see https://www.psycopg.org/psycopg3/docs/api/pool.html."""
    if process != WEB or not most:
        return {}
    return {"pool": _of(least=min(LEAST, most), most=most, name="web")}


def share() -> None:
    """From now on all threads of this process share OF_SLOTS connections. For an agent, before it has any."""
    connections["default"].settings_dict["OPTIONS"]["pool"] = _of(least=0, most=OF_SLOTS, name="slots")


def of_site() -> int:
    """Connections that the processes of the site take together, at most."""
    each = settings.FLEET_WEB_POOL or settings.FLEET_WEB_AT_ONCE + LEAST
    return settings.FLEET_WEB_WORKERS * each


def _of(*, least: int, most: int, name: str) -> dict[str, Any]:
    return {
        "connection_class": postgres.Connection,
        "min_size": least,
        "max_size": most,
        "timeout": PATIENCE_S,
        "reconnect_timeout": PATIENCE_S,  # it tries less and less often, up to this; then each request tries at once
        "max_idle": IDLE_S,
        "max_lifetime": LIFE_S,
        "name": name,
    }
