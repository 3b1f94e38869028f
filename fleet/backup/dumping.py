"""Dumps the database and collects facts about it, from one exported snapshot, while the fleet keeps running."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from fleet import errors
from fleet.backup import copying, postgres_clients
from fleet.backup.manifest import DUMP, BackupFile
from fleet.backup.parts import Rows
from fleet.backup.postgres_clients import PostgresClients
from fleet.config.datastores import Postgres
from fleet.postgres import statements

Progress = Callable[[int], None]  # gets the bytes written so far
LOCK_WAIT = "60s"  # how long pg_dump waits for a migration


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSnapshot:
    """An open snapshot, and facts about the database at that moment."""

    session: psycopg.Connection[Any]
    id: str
    at: datetime
    server: int  # server_version_num
    database: str
    rows: dict[str, int] = field(default_factory=dict)
    migrations: tuple[str, ...] = ()
    head: str = ""

    def query(self, statement: str) -> Rows:
        return self.session.execute(statement).fetchall()


@contextmanager
def snapshot(server: Postgres) -> Iterator[DatabaseSnapshot]:
    """Open a snapshot of the database and export it."""
    with postgres_clients.session(server) as session:
        session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        session.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        (row,) = session.execute(statements.read("fleet.backup", "snapshot"))
        id, at, version, database = row
        if not exists(session, "django_migrations"):
            raise errors.Conflict("The database has no tables yet.", hint="Start the fleet once, then back it up.")
        yield DatabaseSnapshot(
            session=session,
            id=id,
            at=at,
            server=version,
            database=database,
            rows=count_rows(session),
            migrations=migrations(session),
            head=_head(session),
        )


def count_rows(session: psycopg.Connection[Any]) -> dict[str, int]:
    """The number of rows of each table of the fleet."""
    counts = {}
    for schema, table in session.execute(statements.read("fleet.backup", "tables")).fetchall():
        counting = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, table))
        ((counts[f"{schema}.{table}"],),) = session.execute(counting).fetchall()
    return counts


def exists(session: psycopg.Connection[Any], table: str) -> bool:
    ((table_exists,),) = session.execute("SELECT to_regclass(%s) IS NOT NULL", [table]).fetchall()
    return bool(table_exists)


def migrations(session: psycopg.Connection[Any]) -> tuple[str, ...]:
    rows = session.execute("SELECT app || '.' || name FROM django_migrations ORDER BY 1").fetchall()
    return tuple(name for (name,) in rows)


def _head(session: psycopg.Connection[Any]) -> str:
    if not exists(session, "fleet_audit.seal"):
        return ""
    row = session.execute(
        "SELECT number || ':' || digest FROM fleet_audit.seal ORDER BY number DESC LIMIT 1"
    ).fetchone()
    return str(row[0]) if row else ""


def dump(
    *, snapshot: DatabaseSnapshot, server: Postgres, programs: PostgresClients, folder: Path, progress: Progress
) -> BackupFile:
    """Write the dump of a snapshot to `folder`. Raises Unavailable if pg_dump fails, OSError if the disk is full."""
    address, environment = postgres_clients.connection_string(server, programs)
    # Without large objects (-B): the fleet has none, and one that the application's role could create would have to be
    # removed before a restore into the same database.
    argv = [programs.program("pg_dump"), "--format=custom", "-B", f"--snapshot={snapshot.id}"]
    argv += [f"--lock-wait-timeout={LOCK_WAIT}", "--no-password", "--dbname", address]
    with tempfile.TemporaryFile() as stderr, copying.create(folder / DUMP) as target:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, env=environment
        )
        try:
            assert process.stdout is not None
            file = copying.write(_ProgressStream(process.stdout, progress), target, DUMP)
            code = process.wait()
        finally:
            process.kill()
            process.wait()
        if code != 0:
            stderr.seek(0)
            reason = postgres_clients.failure_reason(stderr.read())
            refused = "permission denied" in reason
            raise errors.Unavailable(
                f"pg_dump failed: {reason}",
                hint=postgres_clients.OWNER_HINT
                if refused
                else "If a migration is running, repeat this once it has finished.",
            )
    return file


class _ProgressStream:
    """A stream that reports how much was read."""

    def __init__(self, stream: Any, progress: Progress) -> None:
        self._stream, self._progress, self._size = stream, progress, 0

    def read(self, size: int, /) -> bytes:
        chunk: bytes = self._stream.read(size)
        self._size += len(chunk)
        self._progress(self._size)
        return chunk


def problem(path: Path, *, client: int) -> str:
    """Why pg_restore cannot read a dump to its end; "" if it can."""
    try:
        programs = postgres_clients.find(server=client)
    except errors.Unavailable as missing:
        return f"It could not be read: {missing}"
    completed = subprocess.run(
        [programs.program("pg_restore"), "--file=/dev/null", str(path)], capture_output=True, check=False
    )
    return (
        ""
        if completed.returncode == 0
        else f"pg_restore cannot read it: {postgres_clients.failure_reason(completed.stderr)}"
    )
