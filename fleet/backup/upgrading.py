"""Converts the embedded Postgres to the installed major version: dumps the old cluster and loads it into a new one.

The old data stays as it is, in `postgres.MAJOR`. It is replaced only once the new cluster has all rows and is on
disk; an interrupted conversion can be repeated.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg

from fleet import errors
from fleet.backup import dumping, hooks, loading, postgres_clients
from fleet.backup.manifest import DUMP
from fleet.backup.postgres_clients import PostgresClients
from fleet.config import datastores, ports, programs
from fleet.config.credentials import Credentials
from fleet.config.datastores import Postgres
from fleet.config.home import Home
from fleet.console import invocation, lines
from fleet.console.lines import Say
from fleet.services.providers import embedded, identity
from fleet.services.supervision import lock

DRAFT, FILES = "postgres.draft", "postgres.dump"  # in the private folder
START_S, STOP_S = 60, 60
_OTHER_DATABASES = "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname NOT IN ('postgres', 'fleet')"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeResult:
    """The major versions, the folder with the old data, and the databases besides the fleet's that were left there."""

    before: int
    after: int
    rows: int
    kept: Path
    left: tuple[str, ...]


def upgrade(*, home: Home, credentials: Credentials, bin_folder: Path | None = None, say: Say) -> UpgradeResult | None:
    """Convert the cluster of a home. Returns None if there is nothing to do.

    `bin_folder`: the bin folder of the old version; by default it is searched for. Raises Conflict if the fleet or its
    services run, and Unavailable if the old version is not installed.
    """
    with lock.hold(home):
        embedded.finish_upgrade(home)
        data, new = data_folder(home), programs.postgres()
        if not data.exists() or embedded.version(data) == programs.version(new):
            return None
        before = embedded.version(data)
        old = _old_programs(before, bin_folder)
        for name in (embedded.CONVERTED, DRAFT, FILES):
            shutil.rmtree(home.private / name, ignore_errors=True)
        draft = home.private / DRAFT
        try:
            (home.private / FILES).mkdir(mode=0o700)
            embedded.create_cluster(draft, new, credentials)
            rows, left = _convert(home, credentials, data=data, draft=draft, old=old, new=new, say=say)
        except OSError as error:
            raise errors.Unavailable(
                f"The data could not be converted: {error.strerror or error} ({error.filename or home.private}).",
                hint="The old data is unchanged. Free disk space, then repeat this.",
            ) from error
        finally:
            shutil.rmtree(home.private / FILES, ignore_errors=True)
        os.sync()
        kept = _free_name(home.private / f"postgres.{before}")
        draft.rename(home.private / embedded.CONVERTED)
        data.rename(kept)
        embedded.finish_upgrade(home)
        return UpgradeResult(before=before, after=programs.version(new), rows=rows, kept=kept, left=left)


def data_folder(home: Home) -> Path:
    """The folder of the cluster of a home."""
    return home.private / embedded.DATA


def _old_programs(major: int, bin_folder: Path | None) -> Path:
    folder = bin_folder or programs.find_postgres(major)
    if folder is not None and (folder / "postgres").is_file() and programs.version(folder) == major:
        return folder
    upgrade = invocation.command("fleet_services", "upgrade", "--programs", "FOLDER")
    raise errors.Unavailable(
        f"{folder} is not the bin folder of Postgres {major}."
        if bin_folder
        else f"Postgres {major} is not installed on this host.",
        hint=f"Install it (on Debian: postgresql-{major}), or name its bin folder: {upgrade}. Or restore a backup into a "
        "new data folder (docs/upgrade.md).",
    )


def _convert(
    home: Home, credentials: Credentials, *, data: Path, draft: Path, old: Path, new: Path, say: Say
) -> tuple[int, tuple[str, ...]]:
    """Copy all rows from the cluster in `data` to that in `draft`; returns their number and the other databases."""
    tools = PostgresClients(new, programs.version(new))
    folder = home.private / FILES
    with run_server(data, old, credentials, home=home) as server:
        with dumping.snapshot(server) as snapshot:
            say(f"Dumping the data of Postgres {snapshot.server // 10_000}")
            dump = dumping.dump(
                snapshot=snapshot, server=server, programs=tools, folder=folder, progress=lambda _: None
            )
            rows = snapshot.rows
            left = tuple(name for (name,) in snapshot.query(_OTHER_DATABASES))
    with run_server(draft, new, credentials, home=home) as server:
        say(f"Loading {lines.size(dump.size)} into Postgres {tools.major}")
        owner = replace(server, options={**server.options, "options": f"-c role={datastores.OWNER}"})
        version = tools.major * 10_000
        loading.load(
            folder / DUMP, server=owner, programs=tools, version=version, clear=False, after_load=hooks.after_move()
        )
        with postgres_clients.session(server) as session:
            loaded = dumping.count_rows(session)
    if loaded != rows:
        table = next(table for table in {**rows, **loaded} if rows.get(table) != loaded.get(table))
        raise errors.Conflict(
            f"{table} has {loaded.get(table, 0):,} rows instead of {rows.get(table, 0):,}. The old data is unchanged."
        )
    return sum(rows.values()), left


@contextmanager
def run_server(data: Path, binaries: Path, credentials: Credentials, *, home: Home) -> Iterator[Postgres]:
    """Run a server for a cluster, on a separate port, for the block; yields the administrator's connection."""
    embedded.clear_stale_server(data)
    port = ports.find_free()
    command = embedded.postgres_command(data, binaries, port=port)
    server = Postgres(
        host="127.0.0.1",
        port=port,
        user=datastores.ADMINISTRATOR,
        password=credentials.postgres_admin_password,
        name="fleet",
        options=datastores.SCRAM,
    )
    with (home.logs / "upgrade.log").open("ab") as log:
        process = subprocess.Popen(
            identity.launch_command(command.argv, identity=command.identity, on_orphan=signal.SIGINT),
            cwd=command.cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait_for_answer(server, process, home)
        yield server
    finally:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
        process.kill()
        process.wait()


def _wait_for_answer(server: Postgres, process: subprocess.Popen[bytes], home: Home) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            psycopg.connect(**postgres_clients.libpq(server)).close()
            return
        except psycopg.OperationalError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise errors.Unavailable(
                    f"Postgres could not be started: {str(error).strip().splitlines()[0]}",
                    hint=f"See {home.logs / 'upgrade.log'}. The old data is unchanged.",
                ) from error
        time.sleep(0.1)


def _free_name(path: Path) -> Path:
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate
