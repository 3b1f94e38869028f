"""Open files below a folder that others may write to: openat2(2), by which no link leads out, whoever changes what meanwhile.

Only the standard library: the shim imports this too.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat

SYS_OPENAT2 = 437  # the same on every architecture
NO_MAGIC_LINKS, NO_LINKS, BENEATH = 0x02, 0x04, 0x08  # RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH

_libc = ctypes.CDLL(None, use_errno=True)


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_at(folder: int, path: str, flags: int, *, resolve: int, mode: int = 0) -> int:
    """A descriptor of `path`, which is resolved from the descriptor `folder` under these restrictions."""
    how = _How(flags | os.O_CLOEXEC, mode, resolve)
    # An interrupted call is made again, as Python does for its own (PEP 475).
    while True:
        descriptor = _libc.syscall(SYS_OPENAT2, folder, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how))
        if descriptor >= 0:
            return int(descriptor)
        if (number := ctypes.get_errno()) not in (errno.EINTR, errno.EAGAIN):
            raise OSError(number, os.strerror(number), path)


def open_folder(path: str | os.PathLike[str]) -> int:
    """A descriptor of a folder by its absolute path, to bind or to open below. OSError (ELOOP) if a part is a link."""
    return open_path(path, folder=True)


def open_path(path: str | os.PathLike[str], *, folder: bool) -> int:
    """The same for what may be a file."""
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return open_at(root, os.fspath(path), os.O_PATH | (os.O_DIRECTORY if folder else 0), resolve=NO_LINKS)
    finally:
        os.close(root)


def open_plain(folder: int, path: str, *, resolve: int = BENEATH | NO_LINKS) -> int:
    """A plain file below `folder`, to read. OSError (EINVAL) for anything else, such as a device or a file of procfs."""
    descriptor = open_at(folder, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, resolve=resolve)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_dev in _kernel_devices():
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a plain file", path)
    return descriptor


def _kernel_devices() -> set[int]:
    """Where procfs and sysfs are: their files look plain, and show other processes' secrets."""
    found = set()
    for path in ("/proc/self", "/sys/kernel"):
        try:
            found.add(os.stat(path).st_dev)
        except OSError:  # not mounted
            continue
    return found
