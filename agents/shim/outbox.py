"""Copies what the work gives out into a folder that only the fleet reads.

It runs in the shim, so inside the sandbox and after the work's last process has ended: it sees no more than the work did.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress

from agents.shim import beneath

CHUNK = 1024 * 1024


def copy(outputs: Iterable[str], *, folders: Sequence[str], outbox: int, most_bytes: int) -> list[int]:
    """Copy each output, looked for in the folders in turn, to the file in `outbox` that its number names.

    For each, the errno of what went wrong, or 0: ENOENT in no folder, EINVAL no plain file, E2BIG more than `most_bytes`.
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
            # A link that leads out of the folder is not an output.
            return errno.EINVAL if fault.errno in (errno.EXDEV, errno.ELOOP) else fault.errno or errno.EIO
        return 0
    return errno.ENOENT


def _copy_from(folder: str, path: str, name: str, outbox: int, most_bytes: int) -> None:
    opened = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        source = beneath.open_plain(opened, path, resolve=beneath.BENEATH | beneath.NO_MAGIC_LINKS)
    finally:
        os.close(opened)
    try:
        if os.fstat(source).st_size > most_bytes:
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        target = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=outbox)
        try:
            copied = 0
            while count := os.sendfile(target, source, copied, CHUNK):
                copied += count
                if copied > most_bytes:  # it grew
                    raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        finally:
            os.close(target)
    finally:
        os.close(source)
