"""Store, verify and remove artifacts. Each file is stored once, by its digest; each attempt lists its files."""

from __future__ import annotations

import errno
import hashlib
import mimetypes
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.core.files import File
from django.core.files.storage import Storage, storages
from django.db import connection

from agents.shim import beneath
from fleet import errors, ids
from fleet.postgres import statements
from missions.artifacts import holders
from missions.artifacts.storage import AtomicFileStorage
from missions.claims import Claim
from missions.models import Artifact

RESTORE = "Restore the artifacts folder from a backup, or retry the sortie."
CHUNK_BYTES = 1 << 20
MAX_VERIFIED = 10_000  # files that `_VerifiedFiles` remembers
# File systems have coarse clocks, so a file that has just changed may change again without a new timestamp.
SETTLED_NS = 2_000_000_000


class UnusableOutput(errors.Invalid):
    """An output that the plan declares is missing, too large, or not a file that can be read."""


@dataclass(frozen=True, slots=True)
class _StoredFile:
    path: str
    digest: str
    size: int


def collect(*, claim: Claim, copies: Mapping[str, int], outbox: Path) -> None:
    """Store the outputs of an attempt, and record them if it is the running one.

    `copies` maps each output's path to the errno with which copying it failed (0: success); the copies in `outbox` are
    numbered in this order. Raises UnusableOutput if an output was not produced, is not a regular file or is too
    large; Unavailable if the disk is full.
    """
    for path, error in copies.items():
        _check_copy(path, error)
    folder = beneath.open_path(outbox.resolve(), folder=True)
    try:
        stored = [_store(path, folder, str(number)) for number, path in enumerate(copies)]
    finally:
        os.close(folder)
    with connection.cursor() as cursor:
        cursor.execute(
            statements.read("missions.artifacts", "record_outputs"),
            {
                "sortie": claim.id,
                "attempt": claim.attempt,
                "ids": [ids.new() for _ in stored],
                "paths": [file.path for file in stored],
                "digests": [file.digest for file in stored],
                "sizes": [file.size for file in stored],
                "types": [mimetypes.guess_type(file.path)[0] or "application/octet-stream" for file in stored],
            },
        )


def storage() -> Storage:
    return storages["artifacts"]


def sweep(*, dry_run: bool = False) -> int:
    """Remove drafts left by processes that were killed while they stored a file; returns how many."""
    store = storage()
    return store.sweep(dry_run=dry_run) if isinstance(store, AtomicFileStorage) else 0


def open_stored(artifact: Artifact) -> File[bytes]:
    """An artifact's file, verified against its digest. Raises NotFound if it is missing or was changed."""
    try:
        file = storage().open(_name(artifact.digest))
    except OSError as error:
        raise errors.NotFound(
            f"The content of {artifact.path} ({artifact.digest[:12]}…) is missing from the store.", hint=RESTORE
        ) from error
    if not _verified.is_intact(file, artifact.digest):
        file.close()
        raise errors.NotFound(
            f"The stored content of {artifact.path} ({artifact.digest[:12]}…) has been changed.",
            hint=RESTORE,
        )
    return file


def has(digest: str) -> bool:
    """Whether the store has the file with this digest."""
    return storage().exists(_name(digest))


def add(digest: str, file: File[bytes]) -> None:
    """Store a file under its digest, which the caller has checked. Raises OSError if the disk is full."""
    storage().save(_name(digest), file)


def delete_unused(digests: Collection[str]) -> None:
    """Delete the files with these digests that no artifact and no holder refers to any more."""
    referenced = set(Artifact.objects.filter(digest__in=digests).values_list("digest", flat=True))
    unreferenced = set(digests) - referenced
    for digest in unreferenced - holders.in_use(unreferenced):
        delete(digest)


def delete(digest: str) -> None:
    """Delete the file with this digest. The caller has checked that nothing refers to it."""
    storage().delete(_name(digest))


class _VerifiedFiles:
    """Remembers which stored files matched their digest when they were last read in full.

    A file that has changed since then is read again. Its change time shows that, and users cannot set it.
    """

    def __init__(self) -> None:
        self._states: dict[str, tuple[int, ...]] = {}

    def is_intact(self, file: File[bytes], digest: str) -> bool:
        status = os.fstat(file.fileno())
        state = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if self._states.get(digest) == state:
            return True
        intact = _digest(file) == digest
        file.seek(0)
        if intact and time.time_ns() - status.st_ctime_ns > SETTLED_NS:
            if len(self._states) >= MAX_VERIFIED:
                self._states.clear()
            self._states[digest] = state
        return intact


_verified = _VerifiedFiles()


def _digest(file: File[bytes]) -> str:
    digest = hashlib.sha256()
    while piece := file.read(CHUNK_BYTES):
        digest.update(piece)
    return digest.hexdigest()


def _name(digest: str) -> str:
    return f"{digest[:2]}/{digest}"


def _check_copy(path: str, error: int) -> None:
    match error:
        case 0:
            return
        case errno.ENOENT:
            raise UnusableOutput(
                f"The workload succeeded but did not produce {path!r}, which the plan lists under `outputs`."
            )
        case errno.E2BIG:
            raise UnusableOutput(
                f"{path!r}, listed under `outputs`, exceeds the limit of {settings.FLEET_ARTIFACT_BYTES:,} bytes"
                " (FLEET_ARTIFACT_BYTES), or all outputs together exceed the disk limit of the agent type."
            )
        case errno.EINVAL | errno.EISDIR:
            raise UnusableOutput(
                f"{path!r}, listed under `outputs`, is not a regular file below the folder in which the workload ran."
            )
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            raise _disk_full(path, os.strerror(error))
        case _:
            raise UnusableOutput(f"{path!r}, listed under `outputs`, cannot be read: {os.strerror(error)}.")


def _disk_full(path: str, why: str) -> errors.Unavailable:
    return errors.Unavailable(
        f"{path!r}, listed under `outputs`, could not be stored: {why}.",
        hint="Free disk space for the fleet's artifacts, then retry the sortie.",
    )


def _store(path: str, folder: int, copy: str) -> _StoredFile:
    with File(os.fdopen(beneath.open_plain(folder, copy), "rb")) as file:
        digest, size = _digest(file), file.tell()
        name = _name(digest)
        if not storage().exists(name):
            file.seek(0)
            try:
                storage().save(name, file)
            except OSError as error:
                raise _disk_full(path, error.strerror or str(error)) from error
    return _StoredFile(path, digest, size)
