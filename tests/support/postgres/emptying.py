"""Empties the database between tests within milliseconds.

After a test that commits, Django truncates every table (0.2 s) and restores the rows of the migrations with its ORM
(another 0.2 s). This module deletes only from tables that have rows, and restores the rows of the migrations from a
copy if they have changed.
"""

from __future__ import annotations

from typing import Any

from django.db import connection
from django.db.transaction import atomic
from django.test import TransactionTestCase

from fleet.postgres import roles

MAX_DELETED_ROWS = 2_000  # tables with more rows are truncated, together with the tables that refer to them
COPIES_SCHEMA = "migrated"  # the schema of the copies
_TABLES = f"""
SELECT quote_ident(tablename), to_regclass('{COPIES_SCHEMA}.' || quote_ident(tablename)) IS NOT NULL
FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'django_migrations'
"""


def install() -> None:
    """Replace Django's flush in this process. Call it when the database contains only what the migrations wrote."""
    with connection.cursor() as cursor:
        tables = [table for table, _ in _tables(cursor)]
        if not tables:
            return  # no test of this run uses the database, so pytest-django created none
        counts = _counts(cursor, tables)
    with roles.as_owner(), connection.cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA {COPIES_SCHEMA}")
        for table, count in counts.items():
            if count:
                cursor.execute(f"CREATE TABLE {COPIES_SCHEMA}.{table} AS TABLE {table}")
        cursor.execute(
            f"GRANT USAGE ON SCHEMA {COPIES_SCHEMA} TO PUBLIC; GRANT SELECT ON ALL TABLES IN SCHEMA {COPIES_SCHEMA} TO PUBLIC"
        )
    TransactionTestCase._fixture_setup = classmethod(lambda _: None)  # type: ignore[attr-defined]
    TransactionTestCase._fixture_teardown = lambda _: empty()  # type: ignore[attr-defined]


def empty() -> None:
    """Restore the rows that the migrations wrote, and delete all others."""
    with connection.cursor() as cursor:
        tables = _tables(cursor)
        counts = _counts(cursor, [table for table, _ in tables])
    if large := [table for table, count in counts.items() if count > MAX_DELETED_ROWS]:
        with roles.as_owner(), connection.cursor() as cursor:  # only the owner may truncate
            cursor.execute(f"TRUNCATE {', '.join(large)} CASCADE")
    with atomic(), connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")
        for table, copied in tables:
            if copied:
                cursor.execute(
                    f"SELECT EXISTS (TABLE {table} EXCEPT TABLE {COPIES_SCHEMA}.{table})"
                    f" OR (SELECT count(*) FROM {table}) <> (SELECT count(*) FROM {COPIES_SCHEMA}.{table})"
                )
                if cursor.fetchone()[0]:
                    cursor.execute(f"DELETE FROM {table}; INSERT INTO {table} TABLE {COPIES_SCHEMA}.{table}")
            elif counts[table] and table not in large:
                cursor.execute(f"DELETE FROM {table}")


def _tables(cursor: Any) -> list[tuple[str, bool]]:
    """Each table, and whether it has a copy."""
    cursor.execute(_TABLES)
    return list(cursor.fetchall())


def _counts(cursor: Any, tables: list[str]) -> dict[str, int]:
    """The number of rows of each table, counted up to MAX_DELETED_ROWS + 1."""
    counted = (
        f"(SELECT count(*) FROM (SELECT FROM {table} LIMIT {MAX_DELETED_ROWS + 1}) counted_rows)" for table in tables
    )
    cursor.execute(f"SELECT ARRAY[{', '.join(counted)}]")
    return dict(zip(tables, cursor.fetchone()[0], strict=True))
