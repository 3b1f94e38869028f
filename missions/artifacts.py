"""Files that sorties give out: stored once by digest, listed by the attempt that made them."""

from __future__ import annotations

import hashlib
import mimetypes
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from django.conf import settings
from django.core.files import File
from django.core.files.storage import Storage, storages
from django.db import connection

from fleet import errors, ids, statements
from missions.claims import Claim
from missions.models import Artifact
from missions.storage import WholeFiles


class Missing(errors.Invalid):
    """An output that the plan names was not made."""


@dataclass(frozen=True, slots=True)
class _Stored:
    path: str
    digest: str
    size: int


def collect(*, claim: Claim, outputs: Sequence[str], folders: Sequence[Path]) -> None:
    """Store the outputs of an attempt and note them, each write behind the fence.

    Each is looked for in `folders`, in turn. Missing where one is in none of them, is not a plain file inside them,
    or is too big; Unavailable where the disk does not take it.
    """
    stored = [_store(path, _find(path, folders)) for path in outputs]
    if not stored:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            statements.read("missions", "artifact"),
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
    """The bytes of an artifact; NotFound where the store has lost them."""
    name = _name(artifact.digest)
    if not storage().exists(name):
        raise errors.NotFound(
            f"The bytes of {artifact.path} ({artifact.digest[:12]}…) are not in the store.",
            hint="Restore the artifacts folder from a backup, or retry the sortie.",
        )
    return storage().open(name)


def _name(digest: str) -> str:
    return f"{digest[:2]}/{digest}"


def _find(path: str, folders: Sequence[Path]) -> Path:
    for folder in folders:
        candidate = folder / path
        real = candidate.resolve()
        if real.is_relative_to(settings.FLEET_HOME.private.resolve()):
            raise Missing(f"{path!r}, named under `outputs`, leads into the fleet's private folder.")
        if real.is_relative_to(folder.resolve()) and real.is_file():
            return real
    raise Missing(f"It ended well but did not make {path!r}, which the plan names under `outputs`.")


def _store(path: str, found: Path) -> _Stored:
    try:
        descriptor = os.open(found, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as fault:
        raise Missing(f"{path!r}, named under `outputs`, cannot be read: {fault.strerror}.") from fault
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Missing(f"{path!r}, named under `outputs`, is not a plain file.")
        if status.st_size > settings.FLEET_ARTIFACT_BYTES:
            raise Missing(
                f"{path!r} has {status.st_size:,} bytes; an artifact may have {settings.FLEET_ARTIFACT_BYTES:,}"
                " (FLEET_ARTIFACT_BYTES)."
            )
        digest = _digest(file)
        name = _name(digest)
        if not storage().exists(name):
            file.seek(0)
            try:
                storage().save(name, File(file))
            except OSError as fault:
                raise errors.Unavailable(
                    f"{path!r}, named under `outputs`, could not be stored: {fault.strerror}.",
                    hint="Make room for the fleet's artifacts, then retry the sortie.",
                ) from fault
    return _Stored(path, digest, status.st_size)


def _digest(file: BufferedReader) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()


def forget(digest: str) -> None:
    """Remove the bytes of a digest that no artifact has any more."""
    storage().delete(_name(digest))
