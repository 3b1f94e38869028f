"""Opens files below a folder that others can write to, safely: openat2(2) never follows a link out of it.

This holds even if the folder is changed at the same time. It uses only the standard library, because the shim
imports it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat

SYS_OPENAT2 = 437  # the same on every architecture
NO_MAGIC_LINKS, NO_LINKS, BENEATH = 0x02, 0x04, 0x08  # RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH
MAX_TRIES = 1_000  # while the path is being renamed; a few milliseconds

_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_at(folder: int, path: str, flags: int, *, resolve: int) -> int:
    """Open `path`, resolved from the descriptor `folder` with the RESOLVE flags `resolve`, and return a descriptor.

    Raises OSError, with EAGAIN if another process keeps renaming the path or, without blocking, if it has a lease on the
    file (fcntl(2)).
    """
    open_how = _OpenHow(flags | os.O_CLOEXEC, 0, resolve)  # the mode must be 0, because no file is created
    tries = 0
    while True:  # repeat interrupted calls, as Python does with its own (PEP 475)
        descriptor = _libc.syscall(
            SYS_OPENAT2, folder, os.fsencode(path), ctypes.byref(open_how), ctypes.sizeof(open_how)
        )
        if descriptor >= 0:
            return int(descriptor)
        number = ctypes.get_errno()
        tries += number == errno.EAGAIN
        if number not in (errno.EINTR, errno.EAGAIN) or tries == MAX_TRIES:
            raise OSError(number, os.strerror(number), path)


def open_path(path: str | os.PathLike[str], *, folder: bool) -> int:
    """Open an absolute path as an O_PATH descriptor. Raises OSError (ELOOP) if any part of it is a symbolic link.

    `folder`: raise OSError (ENOTDIR) if it is not a folder.
    """
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return open_at(root, os.fspath(path), os.O_PATH | (os.O_DIRECTORY if folder else 0), resolve=NO_LINKS)
    finally:
        os.close(root)


def open_plain(folder: int, path: str, *, resolve: int = BENEATH | NO_LINKS) -> int:
    """Open a regular file below `folder` to read. Raises OSError (EINVAL) for devices, files of procfs and the like."""
    descriptor = open_at(folder, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, resolve=resolve)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_dev in _kernel_devices():
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return descriptor


def _kernel_devices() -> set[int]:
    """The devices of procfs and sysfs, whose files look regular but reveal secrets of other processes."""
    devices = set()
    for path in ("/proc/self", "/sys/kernel"):
        try:
            devices.add(os.stat(path).st_dev)
        except OSError:  # not mounted
            continue
    return devices
