"""The engine's own connection to Postgres.

The hot path uses neither Django's ORM nor its connections: one psycopg connection a process, statements prepared at
their first use, and plans pinned to index walks, so that a queue of ten thousand does not make the planner sort it.
"""

from __future__ import annotations

from typing import Any

import psycopg
from django.db import connections
from psycopg.rows import tuple_row

from fleet import postgres

Cursor = psycopg.Cursor[tuple[Any, ...]]
Connection = psycopg.Connection[tuple[Any, ...]]

_PINNED = " ".join(
    f"-c {setting}"
    for setting in (
        "enable_seqscan=off",
        "enable_bitmapscan=off",
        "enable_hashjoin=off",
        "enable_mergejoin=off",
        "jit=off",
        "plan_cache_mode=force_generic_plan",
        "statement_timeout=60s",
    )
)


def connect(*, name: str) -> Connection:
    """A new connection with the settings of Django's default one; `name` is shown in pg_stat_activity."""
    given = connections["default"].get_connection_params()
    taken = {
        key: value
        for key, value in given.items()
        if key not in {"cursor_factory", "context", "prepare_threshold", "server_side_binding", "application_name"}
    }
    taken["options"] = f"{taken.get('options', '')} {_PINNED}".strip()
    return postgres.connect(
        **taken, autocommit=True, row_factory=tuple_row, prepare_threshold=0, application_name=f"fleet {name}"[:63]
    )
