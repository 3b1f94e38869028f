"""The engine's own connection to Postgres.

The hot path uses neither Django's ORM nor its connections, but one psycopg connection per use. Statements are prepared
at their first use, and plans are pinned to index scans, so that the planner does not choose to sort a long queue.
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
    """Open a connection with the settings of Django's default one. `name` is shown in pg_stat_activity."""
    django_only = {"cursor_factory", "context", "prepare_threshold", "server_side_binding", "application_name"}
    parameters = connections["default"].get_connection_params()
    parameters = {name: value for name, value in parameters.items() if name not in django_only}
    parameters["options"] = f"{parameters.get('options', '')} {_PINNED}".strip()
    return postgres.connect(
        **parameters, autocommit=True, row_factory=tuple_row, prepare_threshold=0, application_name=f"fleet {name}"[:63]
    )
