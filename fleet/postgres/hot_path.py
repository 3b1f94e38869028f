"""The engine's own connection to Postgres.

The hot path uses neither Django's ORM nor its connections, but its own psycopg connections. Statements are prepared
at their first use, and plans are pinned to index scans, so that the planner does not choose to sort a long queue.

PgBouncer in transaction mode keeps neither prepared statements (before version 1.21) nor a session's settings. Through
it nothing is prepared, and each transaction pins its own plans.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.conf import settings
from psycopg.rows import tuple_row

from fleet import postgres
from fleet.postgres import parameters

Cursor = psycopg.Cursor[tuple[Any, ...]]
Connection = psycopg.Connection[tuple[Any, ...]]

_PINNED = {
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
    "statement_timeout": "60s",
}
_SESSION_OPTIONS = " ".join(f"-c {name}={value}" for name, value in _PINNED.items())
_BEGIN = "".join(["BEGIN", *(f"; SET LOCAL {name} = '{value}'" for name, value in _PINNED.items())])


def connect(*, name: str) -> Connection:
    """Open a connection to the database that Django uses. `name` is shown in pg_stat_activity."""
    libpq = parameters.from_django(application_name=name)
    if _through_pooler():
        return postgres.connect(**libpq, autocommit=True, row_factory=tuple_row, prepare_threshold=None)
    libpq["options"] = f"{libpq.get('options', '')} {_SESSION_OPTIONS}".strip()
    return postgres.connect(**libpq, autocommit=True, row_factory=tuple_row, prepare_threshold=0)


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """A transaction of the hot path; its plans are pinned."""
    if not _through_pooler():
        with connection.transaction():
            yield
        return
    connection.execute(_BEGIN)  # in one round trip, so it takes no parameters
    try:
        yield
    except BaseException:
        if not connection.closed:
            connection.rollback()
        raise
    connection.commit()


@contextmanager
def statement(connection: Connection) -> Iterator[None]:
    """The context of one statement: autocommit, unless pinning its plan requires a transaction."""
    if not _through_pooler():
        yield
        return
    with transaction(connection):
        yield


def _through_pooler() -> bool:
    return settings.FLEET_ENDPOINTS.direct is not None
