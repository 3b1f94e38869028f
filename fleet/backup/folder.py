"""The folder of backups: each is a folder with a `manifest.json` and the files that it lists.

Names are times in UTC, so they sort by age.

A backup is written to `.NAME.partial` and renamed once it is complete and on disk. It is renamed again before it is
deleted.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

from fleet import errors
from fleet.backup import copying, manifest
from fleet.backup.manifest import BackupManifest
from fleet.console import invocation

LATEST = "latest"
_NAME = re.compile(r"\d{8}T\d{6}Z(-\d+)?")


@dataclass(frozen=True)
class Backup:
    """A complete backup. It may have been damaged since."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def manifest(self) -> BackupManifest:
        """Raises BackupDamaged if it is missing or was changed."""
        listing = manifest.read(self.path)
        if listing.name != self.name:
            raise manifest.BackupDamaged(f"{self.path / manifest.NAME} belongs to the backup {listing.name}.")
        return listing


def backups(folder: Path) -> list[Backup]:
    """The backups of a folder, newest first."""
    if not folder.is_dir():
        return []
    return [
        Backup(path)
        for path in sorted(folder.iterdir(), key=lambda path: path.name, reverse=True)
        if _NAME.fullmatch(path.name) and (path / manifest.NAME).is_file()
    ]


def find(folder: Path, name: str) -> Backup:
    """The backup with this name, or the newest one (`latest`). Raises NotFound if there is none."""
    if os.sep in name or name in (".", ".."):
        path = Path(name).expanduser().absolute()
        folder, name = path.parent, path.name
    existing = backups(folder)
    if name == LATEST and existing:
        return existing[0]
    for backup in existing:
        if backup.name == name:
            return backup
    create = invocation.command("fleet_backup", "create")
    listing = invocation.command("fleet_backup", "list")
    raise errors.NotFound(
        f"There is no backup {name} in {folder}." if name != LATEST else f"There is no backup in {folder}.",
        hint=f"List them: {listing}" if existing else f"Create one: {create}",
    )


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Lock a folder for writing, and remove what killed writers left. Raises Conflict if it is locked already."""
    try:
        copying.make_folder(folder)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise copying.disk_error(error, folder, remedy=copying.OTHER_FOLDER) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise errors.Conflict(
                f"Another backup is being written to {folder}.", hint="Wait until it has finished."
            ) from None
        for leftover in (*folder.glob(".*.partial"), *folder.glob(".*.removed")):
            shutil.rmtree(leftover, ignore_errors=True)
        yield
    finally:
        os.close(descriptor)


def new_name(folder: Path, at: datetime) -> str:
    """A name for a backup of this time (UTC) that is not in use."""
    name = base = f"{at:%Y%m%dT%H%M%SZ}"
    number = 1
    while (folder / name).exists():
        number += 1
        name = f"{base}-{number}"
    return name


def draft(folder: Path, name: str) -> Path:
    return folder / f".{name}.partial"


def complete(folder: Path, listing: BackupManifest) -> Backup:
    """Write the manifest of a draft, and give the draft its name once everything is on the disk."""
    path, target = draft(folder, listing.name), folder / listing.name
    with copying.create(path / manifest.NAME) as file:
        file.write(listing.serialize())
    os.sync()
    os.rename(path, target)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return Backup(target)


def keep_newest(folder: Path, number: int) -> list[str]:
    """Remove all but the newest backups; returns the names of the removed ones. The caller must hold the lock."""
    removed = backups(folder)[number:]
    for backup in removed:
        trash = folder / f".{backup.name}.removed"
        os.rename(backup.path, trash)
        shutil.rmtree(trash, ignore_errors=True)
    return [backup.name for backup in removed]
