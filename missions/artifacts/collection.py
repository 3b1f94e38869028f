"""Files that sorties give out: stored once by digest, listed by the attempt that made them."""

from __future__ import annotations

import errno
import hashlib
import mimetypes
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.core.files import File
from django.core.files.storage import Storage, storages
from django.db import connection

from agents.shim import beneath
from fleet import errors, ids
from fleet.postgres import statements
from missions.artifacts.storage import WholeFiles
from missions.claims import Claim
from missions.models import Artifact

RESTORE = "Restore the artifacts folder from a backup, or retry the sortie."
CHUNK_BYTES = 1 << 20
REMEMBERED = 10_000  # verified files
SETTLED_NS = 2_000_000_000  # clocks of file systems are coarse: what changed just now may change again at the same time


class Missing(errors.Invalid):
    """An output that the plan names was not made."""


@dataclass(frozen=True, slots=True)
class _Stored:
    path: str
    digest: str
    size: int


def collect(*, claim: Claim, copies: Mapping[str, int], outbox: Path) -> None:
    """Store the outputs of an attempt and note them, each write behind the fence.

    `copies` says of each output, in the order of their copies in `outbox`, with which errno its copy failed (0: it did
    not). Missing where the attempt did not make one, or no plain file, or too big a one; Unavailable where the disk does
    not take it.
    """
    for path, fault in copies.items():
        _check(path, fault)
    folder = beneath.open_folder(outbox.resolve())
    try:
        stored = [_store(path, folder, str(number)) for number, path in enumerate(copies)]
    finally:
        os.close(folder)
    with connection.cursor() as cursor:
        cursor.execute(
            statements.read("missions.artifacts", "artifact"),
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


def sweep() -> int:
    """Remove what attempts left that were killed while they stored a file; returns how many files that were."""
    store = storage()
    return store.sweep() if isinstance(store, WholeFiles) else 0


def storage() -> Storage:
    return storages["artifacts"]


def open_stored(artifact: Artifact) -> File[bytes]:
    """The bytes of an artifact, which are those of its digest; NotFound where the store has lost or changed them."""
    try:
        opened = storage().open(_name(artifact.digest))
    except OSError as fault:
        raise errors.NotFound(
            f"The bytes of {artifact.path} ({artifact.digest[:12]}…) are not in the store.", hint=RESTORE
        ) from fault
    if not _verified.holds(opened, artifact.digest):
        opened.close()
        raise errors.NotFound(
            f"The bytes of {artifact.path} ({artifact.digest[:12]}…) in the store are not those that were stored.",
            hint=RESTORE,
        )
    return opened


class _Verified:
    """Which stored files had their digest when they were last read whole. One that has changed since, which its time of
    change tells (nobody can set that), is read again."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, ...]] = {}

    def holds(self, opened: File[bytes], digest: str) -> bool:
        status = os.fstat(opened.fileno())
        state = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if self._seen.get(digest) == state:
            return True
        holds = _digest(opened) == digest
        opened.seek(0)
        if holds and time.time_ns() - status.st_ctime_ns > SETTLED_NS:
            if len(self._seen) >= REMEMBERED:
                self._seen.clear()
            self._seen[digest] = state
        return holds


_verified = _Verified()


def _digest(file: File[bytes]) -> str:
    digest = hashlib.sha256()
    while piece := file.read(CHUNK_BYTES):
        digest.update(piece)
    return digest.hexdigest()


def _name(digest: str) -> str:
    return f"{digest[:2]}/{digest}"


def _check(path: str, fault: int) -> None:
    match fault:
        case 0:
            return
        case errno.ENOENT:
            raise Missing(f"It ended well but did not make {path!r}, which the plan names under `outputs`.")
        case errno.E2BIG:
            raise Missing(
                f"{path!r} has more than the {settings.FLEET_ARTIFACT_BYTES:,} bytes that an artifact may have"
                " (FLEET_ARTIFACT_BYTES)."
            )
        case errno.EINVAL | errno.EISDIR:
            raise Missing(f"{path!r}, named under `outputs`, is not a plain file below the folder it worked in.")
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            raise _no_room(path, os.strerror(fault))
        case _:
            raise Missing(f"{path!r}, named under `outputs`, cannot be read: {os.strerror(fault)}.")


def _no_room(path: str, why: str) -> errors.Unavailable:
    return errors.Unavailable(
        f"{path!r}, named under `outputs`, could not be stored: {why}.",
        hint="Make room for the fleet's artifacts, then retry the sortie.",
    )


def _store(path: str, folder: int, copy: str) -> _Stored:
    with File(os.fdopen(beneath.open_plain(folder, copy), "rb")) as file:
        digest, size = _digest(file), file.tell()
        name = _name(digest)
        if not storage().exists(name):
            file.seek(0)
            try:
                storage().save(name, file)
            except OSError as fault:
                raise _no_room(path, fault.strerror or str(fault)) from fault
    return _Stored(path, digest, size)


def forget(digest: str) -> None:
    """Remove the bytes of a digest that no artifact has any more."""
    storage().delete(_name(digest))
