"""The manifest of a backup, `manifest.json`: written last, so a folder without one is not a backup.

It is canonical JSON and contains its own SHA-256, so a change of any byte in it is detected.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from fleet import errors
from fleet.console import lines

FORMAT = 1
NAME = "manifest.json"
DUMP = "database.dump"


class BackupDamaged(errors.Conflict):
    """A file of the backup is missing or was changed."""


class BackupFile(NamedTuple):
    path: str  # below the backup's folder
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupManifest:
    """What a backup consists of, and the facts about the database that a restore compares."""

    name: str
    created_at: str  # ISO 8601: the time of the snapshot
    version: str  # of the fleet
    database: str
    server: int  # Postgres's server_version_num
    client: int  # the major version of pg_dump; a restore needs the same or a newer pg_restore
    migrations: tuple[str, ...]  # "app.name", as applied
    rows: Mapping[str, int]  # by table
    head: str  # of the audit trail's chain, NUMBER:DIGEST; "" if nothing was sealed
    missing: tuple[str, ...]  # files that rows refer to but that no longer existed
    files: tuple[BackupFile, ...]

    @property
    def total_bytes(self) -> int:
        return sum(file.size for file in self.files)

    def serialize(self) -> bytes:
        document = {"format": FORMAT, **asdict(self), "files": [list(file) for file in self.files]}
        return _canonical({**document, "digest": hashlib.sha256(_canonical(document)).hexdigest()})


def read(folder: Path) -> BackupManifest:
    """The manifest of the backup in a folder. Raises BackupDamaged if it is missing or was changed."""
    try:
        data = (folder / NAME).read_bytes()
        document = json.loads(data)
        digest = document.pop("digest")
        intact = hashlib.sha256(_canonical(document)).hexdigest() == digest
        intact = intact and data == _canonical({**document, "digest": digest})
        if not intact:
            raise BackupDamaged(f"{folder / NAME} was changed: its SHA-256 does not match.")
        return _parse(document, folder)
    except FileNotFoundError as error:
        raise BackupDamaged(f"{folder / NAME} is missing.") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise BackupDamaged(f"{folder / NAME} cannot be read: {error}") from error


def _parse(document: dict[str, Any], folder: Path) -> BackupManifest:
    if document.pop("format") != FORMAT:
        raise errors.Conflict(
            f"{folder / NAME} has a format that this version of the fleet cannot read.",
            hint="Use the version that wrote it, or a newer one.",
        )
    for name in ("migrations", "missing"):
        document[name] = tuple(document[name])
    document["files"] = tuple(BackupFile(*file) for file in document["files"])
    for file in document["files"]:
        path = PurePosixPath(file.path)
        if path.is_absolute() or ".." in path.parts:
            raise BackupDamaged(f"{folder / NAME} names a file outside the backup: {lines.one_line(file.path)}")
    listing = BackupManifest(**document)
    texts = (listing.name, listing.created_at, listing.version, listing.database, listing.head, *listing.migrations)
    texts += (*listing.missing, *listing.rows, *(text for file in listing.files for text in (file.path, file.sha256)))
    numbers = (listing.server, listing.client, *listing.rows.values(), *(file.size for file in listing.files))
    if not all(isinstance(text, str) and "\0" not in text for text in texts):
        raise BackupDamaged(f"{folder / NAME} contains something else where a string belongs.")
    if not all(type(number) is int for number in numbers):
        raise BackupDamaged(f"{folder / NAME} contains something else where an integer belongs.")
    return listing


def _canonical(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
