"""Copies the outputs of the work to the outbox, a folder that only the fleet can read.

The shim does this inside the sandbox, after the last process of the work has ended, so it can read only what the work
could read.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress

from agents.shim import beneath

CHUNK = 1024 * 1024


def copy(outputs: Iterable[str], *, folders: Sequence[str], outbox: int, most_bytes: int) -> list[int]:
    """Copy each output from the first folder that has it to a file in `outbox` that is named by its number.

    Returns an errno for each output, or 0: ENOENT if no folder has it, EINVAL if it is not a plain file, and E2BIG if
    it is larger than `most_bytes`.
    """
    return [_copy(path, str(number), folders, outbox, most_bytes) for number, path in enumerate(outputs)]


def _copy(path: str, name: str, folders: Sequence[str], outbox: int, most_bytes: int) -> int:
    for folder in folders:
        try:
            _copy_from(folder, path, name, outbox, most_bytes)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as fault:
            with suppress(OSError):
                os.unlink(name, dir_fd=outbox)
            # A link that leads out of the folder is not a valid output.
            return errno.EINVAL if fault.errno in (errno.EXDEV, errno.ELOOP) else fault.errno or errno.EIO
        return 0
    return errno.ENOENT


def _copy_from(folder: str, path: str, name: str, outbox: int, most_bytes: int) -> None:
    parent = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        source = beneath.open_plain(parent, path, resolve=beneath.BENEATH | beneath.NO_MAGIC_LINKS)
    finally:
        os.close(parent)
    try:
        if os.fstat(source).st_size > most_bytes:
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        target = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=outbox)
        try:
            copied = 0
            while count := os.sendfile(target, source, copied, CHUNK):
                copied += count
                if copied > most_bytes:  # it has grown since the check
                    raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        finally:
            os.close(target)
    finally:
        os.close(source)
