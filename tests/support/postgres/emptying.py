"""Empties the database between tests within milliseconds.

After a test that commits, Django truncates every table (0.2 s) and restores the rows of the migrations with its ORM
(another 0.2 s). This module deletes only from tables that have rows, and restores the rows of the migrations from a
copy if they have changed. Its session outlives the test: a new one would plan the queries of all tables again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import psycopg
from django.conf import settings
from django.db import connection, connections
from django.test import TransactionTestCase

from fleet.postgres import parameters

MAX_DELETED_ROWS = 2_000  # tables with more rows are truncated, together with the tables that refer to them
COPIES_SCHEMA = "migrated"  # the schema of the copies
_TABLES = f"""
SELECT quote_ident(tablename), to_regclass('{COPIES_SCHEMA}.' || quote_ident(tablename)) IS NOT NULL
FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'django_migrations'
"""

Session = psycopg.Connection[tuple[Any, ...]]
Table = tuple[str, bool]  # its name, and whether it has a copy

_sessions: dict[str, Session] = {}  # by database; at most one


def install() -> None:
    """Replace Django's flush in this process. Call it when the database contains only what the migrations wrote."""
    session = _session()
    tables = _tables(session)
    if not tables:
        return  # no test of this run uses the database, so pytest-django created none
    session.execute(f"CREATE SCHEMA {COPIES_SCHEMA}".encode())
    for (table, _), rows in zip(tables, _changes(session, tables), strict=True):
        if rows:
            session.execute(f"CREATE TABLE {COPIES_SCHEMA}.{table} AS TABLE {table}".encode())
    TransactionTestCase._fixture_setup = classmethod(lambda _: None)  # type: ignore[attr-defined]
    TransactionTestCase._fixture_teardown = lambda _: empty()  # type: ignore[attr-defined]


def empty() -> None:
    """Restore the rows that the migrations wrote, and delete all others."""
    connections.close_all()  # the test may have left a transaction open, whose locks this would wait for
    try:
        _empty(_session())
    except psycopg.OperationalError:  # the test has ended the session
        close()
        _empty(_session())


def close() -> None:
    """End the session, so that the database can be dropped."""
    for session in _sessions.values():
        session.close()
    _sessions.clear()


def _session() -> Session:
    """A session of the owner, who may truncate, in the database of Django's default connection."""
    name = str(connection.settings_dict["NAME"])
    if name not in _sessions:
        close()
        owner = settings.FLEET_ENDPOINTS.owner or settings.FLEET_ENDPOINTS.postgres
        options = parameters.for_libpq(replace(owner, name=name), connect_timeout_s=30, application_name="fleet tests")
        _sessions[name] = psycopg.connect(**options, autocommit=True)
    return _sessions[name]


def _empty(session: Session) -> None:
    tables = _tables(session)
    changes = _changes(session, tables)
    if large := [table for (table, _), rows in zip(tables, changes, strict=True) if rows > MAX_DELETED_ROWS]:
        session.execute(f"TRUNCATE {', '.join(large)} CASCADE".encode())
        changes = _changes(session, tables)
    if not any(changes):
        return
    with session.transaction():
        session.execute("SET CONSTRAINTS ALL DEFERRED")
        for (table, copied), rows in zip(tables, changes, strict=True):
            if rows:
                session.execute(f"DELETE FROM {table}".encode())
            if rows and copied:
                session.execute(f"INSERT INTO {table} TABLE {COPIES_SCHEMA}.{table}".encode())


def _tables(session: Session) -> list[Table]:
    tables: list[Table] = session.execute(_TABLES.encode(), prepare=True).fetchall()
    return tables


def _changes(session: Session, tables: Sequence[Table]) -> list[int]:
    """For each table, 1 if it differs from its copy; without a copy its rows, counted up to MAX_DELETED_ROWS + 1."""
    counted = (
        f"""((EXISTS (TABLE {table} EXCEPT TABLE {COPIES_SCHEMA}.{table})
        OR (SELECT count(*) FROM {table}) <> (SELECT count(*) FROM {COPIES_SCHEMA}.{table}))::int)"""
        if copied
        else f"(SELECT count(*) FROM (SELECT FROM {table} LIMIT {MAX_DELETED_ROWS + 1}) counted_rows)"
        for table, copied in tables
    )
    rows = session.execute(f"SELECT ARRAY[{', '.join(counted)}]::int[]".encode(), prepare=True).fetchone()
    assert rows is not None
    return list(rows[0])
