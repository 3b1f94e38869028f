"""The artifacts and the commits of a file that is written or read: in temporary files until everything was checked."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import IO, Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.files import File
from django.db.models import Q

from checkpoints.document import archive
from checkpoints.document.buckets import Malformed
from fleet import errors
from missions.artifacts import collection
from missions.models import Artifact, Mission


class Spool:
    """The temporary file, with the place of each artifact in it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.files: dict[str, tuple[int, int]] = {}  # digest: offset and size

    def add(self, digest: str, chunks: Iterator[bytes]) -> None:
        offset = self._file.tell()
        for chunk in chunks:
            if self._file.tell() - offset + len(chunk) > settings.FLEET_ARTIFACT_BYTES:
                raise Malformed(f"an artifact has more than {settings.FLEET_ARTIFACT_BYTES:,} bytes")
            with translate_disk_errors():
                self._file.write(chunk)
        self.files[digest] = offset, self._file.tell() - offset

    def open(self, digest: str) -> File[bytes]:
        with translate_disk_errors():
            self._file.flush()
        return File(io.BufferedReader(_Slice(self._file.fileno(), *self.files[digest])), name=digest)


class BundleSpool:
    """A temporary file with the commits of a workspace, as a git bundle of at most `max_bytes`."""

    def __init__(self, file: IO[bytes], *, max_bytes: int) -> None:
        self._file, self._max_bytes, self._sha256 = file, max_bytes, hashlib.sha256()
        self.bytes = 0

    def write(self, data: bytes) -> None:
        self.bytes += len(data)
        if self.bytes > self._max_bytes:
            raise Malformed(f"the commits of its workspace have more than {self._max_bytes:,} bytes")
        self._sha256.update(data)
        with translate_disk_errors():
            self._file.write(data)

    def receive(self, chunks: Iterator[bytes]) -> None:
        for chunk in chunks:
            self.write(chunk)

    @property
    def digest(self) -> str:
        return self._sha256.hexdigest()

    def open(self) -> IO[bytes]:
        """The file from its start, when all of it has been written."""
        with translate_disk_errors():
            self._file.flush()
        self._file.seek(0)
        return self._file

    def chunks(self) -> Iterator[bytes]:
        file = self.open()
        while chunk := file.read(collection.CHUNK_BYTES):
            yield chunk


class _Slice(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, descriptor: int, offset: int, size: int) -> None:
        self._descriptor, self._offset, self._end, self._start = descriptor, offset, offset + size, offset

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        origin = (self._start, self._offset, self._end)[whence]
        self._offset = max(self._start, origin + offset)
        return self._offset - self._start

    def tell(self) -> int:
        return self._offset - self._start

    def readinto(self, buffer: Any, /) -> int:
        data = os.pread(self._descriptor, max(0, min(len(buffer), self._end - self._offset)), self._offset)
        buffer[: len(data)] = data
        self._offset += len(data)
        return len(data)


@contextmanager
def spool() -> Iterator[Spool]:
    with _temporary_file() as file:
        yield Spool(file)


@contextmanager
def bundle_spool() -> Iterator[BundleSpool]:
    """A spool for commits. Their limit is that of the file, as for its importer."""
    with _temporary_file() as file:
        yield BundleSpool(file, max_bytes=min(settings.FLEET_IMPORT_FILE_BYTES, archive.MAX_MEMBER_BYTES))


@contextmanager
def _temporary_file() -> Iterator[IO[bytes]]:
    """A file in the folder of checkpoints, because the system's folder for temporary files may be in memory."""
    with translate_disk_errors():
        settings.FLEET_CHECKPOINTS.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = tempfile.TemporaryFile(dir=settings.FLEET_CHECKPOINTS)  # noqa: SIM115  (closed below)
    with file:
        yield file


@contextmanager
def translate_disk_errors() -> Iterator[None]:
    """Raise Unavailable, with a hint, if the content of the file cannot be written."""
    try:
        yield
    except OSError as error:
        raise errors.Unavailable(
            f"The content of the file could not be stored: {error.strerror or error}.",
            hint="Free disk space, then try again.",
        ) from error


def readable_artifacts(digests: Collection[str], spool: Spool, by: User | None) -> set[str]:
    """The artifacts of an import that the importer may read: in the file, or of missions that they may see.

    `by` is None for the host's operator.
    """
    if by is None or by.is_superuser:
        stored = {digest for digest in digests if collection.has(digest)}
    else:
        visible = Mission.objects.filter(Q(created_by=by) | Q(team__in=by.groups.all()))
        rows = Artifact.objects.filter(digest__in=digests, sortie__mission__in=visible)
        stored = {digest for digest in rows.values_list("digest", flat=True) if collection.has(digest)}
    return stored | spool.files.keys()


@contextmanager
def store_artifacts(spool: Spool) -> Iterator[None]:
    """Store the artifacts of the file; if the block fails, remove those that nothing refers to."""
    added: list[str] = []
    try:
        for digest in spool.files:
            if not collection.has(digest):
                added.append(digest)
                with spool.open(digest) as file, translate_disk_errors():
                    collection.add(digest, file)
        yield
    except BaseException:
        used = set(Artifact.objects.filter(digest__in=added).values_list("digest", flat=True))
        for digest in set(added) - used:
            collection.delete(digest)
        raise
