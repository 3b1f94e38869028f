"""Restores a backup into an empty database, or into one that the caller names.

    verify the backup → restore files → load the database, in one transaction → finish the parts → migrate → verify

Every step can be repeated. Until the last one has finished, the database is marked, so that the fleet does not start on
it, and a repeated restore needs no force.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.db.migrations.loader import MigrationLoader

from fleet import __version__, audit, errors
from fleet.audit import protection, sealing, verification
from fleet.backup import copying, dumping, hooks, loading, parts, postgres_clients, verifying
from fleet.backup.folder import Backup
from fleet.backup.manifest import DUMP, BackupManifest
from fleet.config.datastores import Postgres
from fleet.console import invocation, lines
from fleet.console.lines import Say
from fleet.postgres import statements
from fleet.services import detached


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupRestoreResult:
    """The outcome of a restore."""

    backup: Backup
    rows: int
    files: int
    entries: int  # of the audit trail that match their seals
    notes: tuple[str, ...]  # for the operator


def restore(*, backup: Backup, force: str = "", say: Say = lambda _: None) -> BackupRestoreResult:
    """Restore a backup and verify the result.

    Raises Conflict if the backup is damaged, if the fleet runs here, if the backup comes from a newer version, if the
    database is not empty and `force` is not its name, or if the result does not match the backup.
    """
    server = postgres_clients.writer()
    _require_stopped(server)
    manifest = backup.manifest
    _require_known_migrations(manifest)
    version = _version(server)
    if manifest.server // 10_000 > version // 10_000:
        raise errors.Conflict(
            f"The backup comes from Postgres {manifest.server // 10_000}; this one is {version // 10_000}.",
            hint="Restore it into the same or a newer major version.",
        )
    programs = postgres_clients.find(server=version // 10_000, at_least=manifest.client)
    tables, unfinished = loading.contents(server)
    if tables and not unfinished and force != server.name:
        raise errors.Conflict(
            f"The database {server.name} is not empty.",
            hint=f"Everything in it would be replaced. To accept that, name it: --force {server.name}",
        )
    verifying.require_intact(backup, say=say)
    _restore_files(backup, manifest, say)
    say(f"Restoring the database {server.name}")
    loading.load(
        backup.path / DUMP,
        server=server,
        programs=programs,
        version=version,
        clear=bool(tables or unfinished),
        after_load=[*hooks.after_move(), *hooks.after_restore()],
        lease_s=settings.FLEET_LEASE_S,
        backup=backup.name,
    )
    _require_rows(manifest)
    for part in parts.registered():
        part.finish(backup.path / part.name, backup=backup.name)
    say("Migrating the database")
    connection.close()
    call_command("migrate", interactive=False, verbosity=0)
    notes = [*hooks.after_migrations()]
    sealing.seal()
    number, _, digest = manifest.head.partition(":")
    report = verification.verify(heads=[(int(number), digest)] if digest else [])
    protection.record_protection()
    audit.record(
        kind="backup.restore",
        subject=backup.name,
        data={"created_at": manifest.created_at, "version": manifest.version, "by_version": __version__},
    )
    loading.clear_unfinished_mark(server)
    if report.problems:
        raise errors.Conflict(
            f"The backup is restored, but its audit trail does not match: {report.problems[0].message}",
            hint=f"It was changed before the backup was made. See {invocation.command('fleet_audit', 'verify')}.",
        )
    if manifest.missing:
        notes.append(f"Missing already when the backup was made: {lines.counted(len(manifest.missing), 'file')}.")
    return BackupRestoreResult(
        backup=backup,
        rows=sum(manifest.rows.values()),
        files=len(manifest.files),
        entries=report.entries,
        notes=tuple(notes),
    )


def require_finished() -> None:
    """Raise Conflict if a restore of this database was interrupted. Call it before the fleet starts on it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('public.fleet_unfinished_restore')")
        if cursor.fetchone()[0] is not None:
            raise errors.Conflict(
                "A restore of this database was interrupted.",
                hint=f"Repeat it: {invocation.command('fleet_backup', 'restore')}",
            )


def _require_stopped(server: Postgres) -> None:
    """Raise Conflict if a process of a fleet uses the database."""
    running = detached.running_status(settings.FLEET_HOME)
    if running is not None and running["kind"] == "fleet":
        raise errors.Conflict("The fleet is running here.", hint=f"Stop it first: {invocation.command('fleet_down')}")
    connection.close()
    with postgres_clients.session(server) as session:
        others = session.execute(statements.read("fleet.backup", "sessions")).fetchall()
    if others:
        name, address = others[0]
        raise errors.Conflict(
            f"The database is used by {lines.counted(len(others), 'session')} of a fleet "
            f"({name} of {address or 'this host'}).",
            hint="Stop the fleet on all hosts first.",
        )


def _require_known_migrations(manifest: BackupManifest) -> None:
    """Raise Conflict if the backup has migrations that this code does not know."""
    migrations = MigrationLoader(None).disk_migrations
    replaced = (key for migration in migrations.values() for key in migration.replaces)
    unknown = sorted(set(manifest.migrations) - {f"{app}.{name}" for app, name in (*migrations, *replaced)})
    if unknown:
        raise errors.Conflict(
            f"The backup comes from a newer version of the fleet ({manifest.version}), with the migration {unknown[0]}.",
            hint="Restore it with that version.",
        )


def _version(server: Postgres) -> int:
    """Postgres's server_version_num."""
    with postgres_clients.session(server) as session:
        return session.info.server_version


def _restore_files(backup: Backup, manifest: BackupManifest, say: Say) -> None:
    for part in parts.registered():
        prefix = f"{part.name}/"
        files = [file for file in manifest.files if file.path.startswith(prefix)]
        say(f"Restoring {part.name}: {lines.counted(len(files), 'file')}")
        for file in files:
            try:
                part.put_back(file.path.removeprefix(prefix), backup.path / file.path, sha256=file.sha256)
            except OSError as error:
                raise copying.disk_error(error, settings.FLEET_HOME.root) from error


def _require_rows(manifest: BackupManifest) -> None:
    """Raise Conflict if a table does not have as many rows as when the backup was made."""
    with postgres_clients.session(postgres_clients.reader()) as session:
        counts = dumping.count_rows(session)
    for table, number in manifest.rows.items():
        if table not in ("public.fleet_event", "public.django_session") and counts.get(table, 0) != number:
            raise errors.Conflict(
                f"{table} has {counts.get(table, 0):,} rows instead of {number:,}.", hint="Repeat the restore."
            )
