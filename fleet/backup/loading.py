"""Loads a dump into the fleet's database, in one transaction: all of it or nothing.

psql gets the script that pg_restore prints, between BEGIN and COMMIT. The COMMIT is only sent once pg_restore has
succeeded, so a damaged dump, a full disk or a killed process leaves the database as it was.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from psycopg import sql

from fleet import errors
from fleet.backup import postgres_clients
from fleet.backup.postgres_clients import PostgresClients
from fleet.config.datastores import Postgres
from fleet.postgres import statements

CHUNK_BYTES = 1 << 20
_TIMEOUT = b"SET transaction_timeout = 0;\n"  # printed by clients since 17; older servers reject it
_TIMEOUT_SINCE = 170000


def contents(server: Postgres) -> tuple[int, str]:
    """The number of tables, views and sequences in the database, and the backup of an interrupted restore, if any."""
    with postgres_clients.session(server) as session:
        (row,) = session.execute(statements.read("fleet.backup", "contents"))
        number, unfinished = row
        name = session.execute("SELECT backup FROM public.fleet_unfinished_restore").fetchone() if unfinished else None
    return number, str(name[0]) if name else ""


def load(
    dump: Path,
    *,
    server: Postgres,
    programs: PostgresClients,
    version: int,
    clear: bool,
    after_load: Sequence[str],
    lease_s: float = 0,
    backup: str = "",
) -> None:
    """Load a dump into the database, and run the statements `after_load` in the same transaction.

    `clear` first removes the fleet's objects. `version` is the server's server_version_num. `backup` is the name with
    which the database is marked as unfinished until `clear_unfinished_mark` is called; empty: it is not marked.
    """
    address, environment = postgres_clients.connection_string(server, programs)
    loader = [programs.program("psql"), "--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1"]
    reader = [programs.program("pg_restore"), "--no-owner", "--no-privileges", "--exit-on-error", "--file=-", str(dump)]
    with tempfile.TemporaryFile() as loader_errors, tempfile.TemporaryFile() as reader_errors:
        psql = subprocess.Popen(
            [*loader, "--dbname", address],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=loader_errors,
            env=environment,
        )
        script = subprocess.Popen(
            reader, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=reader_errors, env=environment
        )
        assert psql.stdin is not None
        assert script.stdout is not None
        try:
            psql.stdin.write(_beginning(clear=clear).encode())
            _forward(script.stdout, psql.stdin, keep_timeout=version >= _TIMEOUT_SINCE)
            if script.wait() != 0:
                raise errors.Conflict(f"pg_restore failed: {postgres_clients.failure_reason(_text(reader_errors))}")
            psql.stdin.write(_end(after_load, lease_s=lease_s, backup=backup).encode())
            psql.stdin.close()
            code = psql.wait()
        except BrokenPipeError:
            code = psql.wait() or 1
        finally:
            for process in (script, psql):
                process.kill()
                process.wait()
        if code != 0:
            raise errors.Unavailable(
                f"The database could not be restored: {postgres_clients.failure_reason(_text(loader_errors))}",
                hint="It was not changed.",
            )


def _beginning(*, clear: bool) -> str:
    return "BEGIN;\n" + (statements.read("fleet.backup", "clear") if clear else "")


def _forward(script: IO[bytes], target: IO[bytes], *, keep_timeout: bool) -> None:
    """Forward the script, which begins with its settings."""
    beginning = script.read(4096)
    target.write(beginning if keep_timeout else beginning.replace(_TIMEOUT, b""))
    while chunk := script.read(CHUNK_BYTES):
        target.write(chunk)


def _end(after_load: Sequence[str], *, lease_s: float, backup: str) -> str:
    marks = [statements.read("fleet.backup", "mark_unfinished")] if backup else []
    values = {"lease": sql.Literal(float(lease_s)).as_string(), "backup": sql.Literal(backup).as_string()}
    formatted = (statement % values for statement in (*after_load, *marks))
    return "\n".join(["SET search_path TO public;", *formatted, "COMMIT;", ""])


def clear_unfinished_mark(server: Postgres) -> None:
    """Remove the mark of an unfinished restore."""
    with postgres_clients.session(server) as session:
        session.execute("DROP TABLE IF EXISTS public.fleet_unfinished_restore")


def _text(file: IO[Any]) -> bytes:
    file.seek(0)
    return bytes(file.read())
