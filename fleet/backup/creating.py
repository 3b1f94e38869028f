"""Creates a backup while the fleet runs.

The database comes from one snapshot. The files are copied after it. A file never changes once it has its name, so the
copies match the rows. Files that were removed meanwhile, with their missions, are listed as missing.
"""

from __future__ import annotations

import errno
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fleet import __version__, audit, errors
from fleet.backup import copying, dumping, parts, postgres_clients
from fleet.backup import folder as folders
from fleet.backup.folder import Backup
from fleet.backup.manifest import DUMP, BackupDamaged, BackupFile, BackupManifest
from fleet.backup.parts import SourceFile
from fleet.console import lines
from fleet.console.lines import Say

PROGRESS_S = 2.0  # between two lines of progress


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateResult:
    """A new backup."""

    backup: Backup
    new_bytes: int  # in files that no earlier backup had
    removed: tuple[str, ...]  # names of earlier backups, by retention


def create(*, folder: Path, keep: int | None = None, full: bool = False, say: Say = lambda _: None) -> CreateResult:
    """Write a backup to a folder, and then remove all but the newest `keep`.

    Files that the newest backup there already has are hard-linked instead of copied, unless `full`. Raises Conflict if
    another backup is being written there, and Unavailable if the disk is full or pg_dump is missing.
    """
    with folders.lock(folder):
        earlier = {} if full else _earlier(folder)
        name = folders.new_name(folder, datetime.now(UTC))
        draft = folders.draft(folder, name)
        try:
            copying.make_folder(draft)
            written, new_bytes = _write(name, draft, earlier, say)
            backup = folders.complete(folder, written)
        except OSError as error:
            raise copying.disk_error(error, folder, remedy=copying.OTHER_FOLDER) from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        removed = () if keep is None else tuple(folders.keep_newest(folder, keep))
        audit.record(kind="backup.create", subject=name, after={"bytes": written.total_bytes, "removed": list(removed)})
        return CreateResult(backup=backup, new_bytes=new_bytes, removed=removed)


def _earlier(folder: Path) -> dict[str, tuple[Path, BackupFile]]:
    """The files of the newest backup with an intact manifest, by path."""
    for backup in folders.backups(folder):
        try:
            return {file.path: (backup.path / file.path, file) for file in backup.manifest.files}
        except (BackupDamaged, errors.Conflict):
            continue
    return {}


def _write(name: str, draft: Path, earlier: dict[str, tuple[Path, BackupFile]], say: Say) -> tuple[BackupManifest, int]:
    server = postgres_clients.reader()
    progress = _Progress(say)
    with dumping.snapshot(server) as snapshot:
        programs = postgres_clients.find(server=snapshot.server // 10_000)
        say(f"Dumping the database {snapshot.database} as of {snapshot.at:%Y-%m-%d %H:%M:%S} UTC")
        dump = dumping.dump(
            snapshot=snapshot,
            server=server,
            programs=programs,
            folder=draft,
            progress=lambda size: progress.show(f"database: {lines.size(size)}"),
        )
        required = {part.name: part.required(snapshot.query) for part in parts.registered()}
    _require_same_migrations(snapshot)
    files, missing, new_bytes = [dump], [], dump.size
    for part in parts.registered():
        entries = list(part.entries(required[part.name]))
        _require_space(draft, part.name, entries, earlier)
        say(f"Copying {part.name}: {lines.counted(len(entries), 'file')}")
        present = set()
        for number, entry in enumerate(entries, start=1):
            progress.show(f"{part.name}: {number:,} of {len(entries):,} files")
            path = f"{part.name}/{entry.path}"
            try:
                file, copied = _add(entry, draft, path, earlier.get(path))
            except FileNotFoundError:
                continue  # removed meanwhile
            files.append(file)
            new_bytes += file.size if copied else 0
            present.add(entry.path)
        missing += [f"{part.name}/{path}" for path in sorted(required[part.name] - present)]
    manifest = BackupManifest(
        name=name,
        created_at=snapshot.at.isoformat(),
        version=__version__,
        database=snapshot.database,
        server=snapshot.server,
        client=programs.major,
        migrations=snapshot.migrations,
        rows=snapshot.rows,
        head=snapshot.head,
        missing=tuple(missing),
        files=tuple(files),
    )
    return manifest, new_bytes


def _add(entry: SourceFile, draft: Path, path: str, earlier: tuple[Path, BackupFile] | None) -> tuple[BackupFile, bool]:
    """Add a file to the draft; returns it, and whether its bytes were copied."""
    if earlier is not None and isinstance(entry.source, Path):
        source, file = earlier
        if entry.source.stat().st_size == file.size and copying.link(source, draft / path, size=file.size):
            return file, False
    return copying.copy(entry.source, draft, path), True


def _require_space(
    draft: Path, name: str, entries: list[SourceFile], earlier: dict[str, tuple[Path, BackupFile]]
) -> None:
    """Raise OSError if the files that have to be copied do not fit on the disk."""
    needed = 0
    for entry in entries:
        if f"{name}/{entry.path}" in earlier or isinstance(entry.source, bytes):
            continue
        try:
            needed += entry.source.stat().st_size
        except FileNotFoundError:
            continue
    if needed > shutil.disk_usage(draft).free:
        raise OSError(errno.ENOSPC, f"{lines.size(needed)} of {name} do not fit", str(draft))


def _require_same_migrations(snapshot: dumping.DatabaseSnapshot) -> None:
    """Raise Conflict if a migration has changed the tables between the snapshot and the dump."""
    with postgres_clients.session(postgres_clients.reader()) as session:
        if dumping.migrations(session) != snapshot.migrations:
            raise errors.Conflict(f"The database was migrated while {DUMP} was written.", hint="Repeat the backup.")


class _Progress:
    """Shows a line at most every PROGRESS_S seconds."""

    def __init__(self, say: Say) -> None:
        self._say, self._shown_at = say, time.monotonic()

    def show(self, line: str) -> None:
        if time.monotonic() - self._shown_at >= PROGRESS_S:
            self._shown_at = time.monotonic()
            self._say(f"  {line}")
