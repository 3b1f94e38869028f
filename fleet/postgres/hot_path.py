"""The engine's own connection to Postgres.

The hot path uses neither Django's ORM nor its connections, but one psycopg connection per use. Statements are prepared
at their first use, and plans are pinned to index scans, so that the planner does not choose to sort a long queue.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.rows import tuple_row

from fleet import postgres
from fleet.postgres import parameters

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
    """Open a connection to the database of Django's default one. `name` is shown in pg_stat_activity."""
    libpq = parameters.beside_django(application_name=name)
    libpq["options"] = f"{libpq.get('options', '')} {_PINNED}".strip()
    return postgres.connect(**libpq, autocommit=True, row_factory=tuple_row, prepare_threshold=0)
