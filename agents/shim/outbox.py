"""Copies the outputs of the workload to the outbox, a folder that only the fleet can read.

The shim does this inside the sandbox, after the last process of the workload has ended, so it can read only what the
workload could read.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from agents.shim import beneath

CHUNK = 1024 * 1024


def copy(
    outputs: Iterable[str],
    *,
    folders: Sequence[str],
    outbox: int,
    max_bytes: int,
    max_total_bytes: int,
    must_stop: Callable[[], bool],
) -> list[int]:
    """Copy each output from the first folder that has it to a file in `outbox` that is named by its number.

    `max_total_bytes`: of all outputs together; 0: no limit. Sparse files take no space until they are copied, so the
    limit of the scratch folder does not bound them. `must_stop` is called between two pieces.

    Returns an errno for each output, or 0: ENOENT if no folder has it, EINVAL if it is not a regular file, E2BIG if it
    is larger than a limit, and ECANCELED if the copying was stopped.
    """
    copies = _Copies(folders, outbox, max_bytes, max_total_bytes or math.inf, must_stop)
    return [copies.add(path, str(number)) for number, path in enumerate(outputs)]


class _Copies:
    def __init__(
        self, folders: Sequence[str], outbox: int, max_bytes: int, left_bytes: float, must_stop: Callable[[], bool]
    ) -> None:
        self._folders, self._outbox, self._must_stop = folders, outbox, must_stop
        self._max_bytes, self._left_bytes = max_bytes, left_bytes

    def add(self, path: str, name: str) -> int:
        for folder in self._folders:
            try:
                self._left_bytes -= self._copy(folder, path, name)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                with suppress(OSError):
                    os.unlink(name, dir_fd=self._outbox)
                # A link that leads out of the folder is not a valid output.
                return errno.EINVAL if error.errno in (errno.EXDEV, errno.ELOOP) else error.errno or errno.EIO
            return 0
        return errno.ENOENT

    def _copy(self, folder: str, path: str, name: str) -> int:
        """Copy one file, and return its size."""
        limit = min(self._max_bytes, self._left_bytes)
        parent = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            source = beneath.open_plain(parent, path, resolve=beneath.BENEATH | beneath.NO_MAGIC_LINKS)
        finally:
            os.close(parent)
        try:
            if os.fstat(source).st_size > limit:
                raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            target = os.open(name, flags, 0o600, dir_fd=self._outbox)
            try:
                copied = 0
                while count := os.sendfile(target, source, copied, CHUNK):
                    copied += count
                    if copied > limit:  # it has grown since the check
                        raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
                    if self._must_stop():
                        raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
            finally:
                os.close(target)
        finally:
            os.close(source)
        return copied
