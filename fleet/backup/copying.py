"""Copies files and computes their SHA-256 in one pass. Files of a backup have mode 0600, their folders 0700."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from fleet import errors
from fleet.backup.manifest import BackupFile
from fleet.streams import Readable

CHUNK_BYTES = 1 << 20


def walk(folder: Path) -> Iterator[Path]:
    """The regular files below a folder, in the order of their names. Links and files that disappear are skipped."""
    with suppress(FileNotFoundError, NotADirectoryError):
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False):
                yield from walk(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                yield Path(entry.path)


def make_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def create(path: Path) -> IO[bytes]:
    """Open a new file that only its owner can read."""
    make_folder(path.parent)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb")


def write(source: Readable, target: IO[bytes], path: str) -> BackupFile:
    """Copy an open file to another one."""
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(CHUNK_BYTES):
        target.write(chunk)
        digest.update(chunk)
        size += len(chunk)
    return BackupFile(path, size, digest.hexdigest())


def copy(source: Path | bytes, folder: Path, path: str) -> BackupFile:
    """Copy a file to a path below `folder`. Raises FileNotFoundError if it has disappeared."""
    if isinstance(source, bytes):
        with create(folder / path) as target:
            target.write(source)
        return BackupFile(path, len(source), hashlib.sha256(source).hexdigest())
    with open(source, "rb", opener=_without_links) as file, create(folder / path) as target:
        return write(file, target, path)


def link(earlier: Path, target: Path, *, size: int) -> bool:
    """Hard-link a file of an earlier backup. Returns False if it is missing, or this file system has no hard links."""
    try:
        if earlier.lstat().st_size != size:
            return False
        make_folder(target.parent)
        os.link(earlier, target, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        return False
    return True


def digest(path: Path) -> tuple[int, str]:
    """The size and the SHA-256 of a file. Raises OSError if it cannot be read."""
    hasher, size = hashlib.sha256(), 0
    with open(path, "rb", opener=_without_links) as file:
        while chunk := file.read(CHUNK_BYTES):
            hasher.update(chunk)
            size += len(chunk)
    return size, hasher.hexdigest()


def put_back(source: Path, target: Path, *, sha256: str) -> None:
    """Copy a file of a backup to its place, atomically, unless it is there with the same content."""
    with suppress(OSError):
        if digest(target)[1] == sha256:
            return
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    make_folder(target.parent)
    try:
        with open(source, "rb", opener=_without_links) as file, create(draft) as copied:
            if write(file, copied, target.name).sha256 != sha256:
                raise errors.Conflict(f"{source} changed while it was read.", hint="Verify the backup, then repeat.")
            copied.flush()
            os.fsync(copied.fileno())
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)


def _without_links(path: str, flags: int) -> int:
    """Open a regular file. Devices and named pipes could be endless."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return descriptor


OTHER_FOLDER = "choose another folder with --folder"


def disk_error(error: OSError, folder: Path, *, remedy: str = "") -> errors.Unavailable:
    """The error to raise for an OSError while files are copied to or from `folder`. `remedy`: how to avoid the folder."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return errors.Unavailable(
            f"The disk of {folder} is full. Nothing of this run was kept.",
            hint=f"Free space there{f', or {remedy}' if remedy else ''}.",
        )
    denied = isinstance(error, PermissionError)
    hints = [*(["check its owner and its permissions"] if denied else []), *([remedy] if remedy else [])]
    hint = ", or ".join(hints)
    return errors.Unavailable(
        f"{error.filename or folder} cannot be read or written ({error.strerror or error}).",
        hint=f"{hint[:1].upper()}{hint[1:]}." if hint else "",
    )
