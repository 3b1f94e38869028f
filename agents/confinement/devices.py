"""Keeps root's workloads from changing the host's device nodes, which every sandbox shares with the host.

The owner of /dev/null may change its mode and its owner, for every process of the host. A mount that is read-only
forbids that, and still lets everyone write to the device. Bubblewrap cannot mount a device so: its --remount-ro also
forbids to open devices. But a bind mount has the flags of the mount that it is made from.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

# Those that bubblewrap's --dev takes from the host (bubblewrap.c).
DEVICES = tuple(Path("/dev", name) for name in ("null", "zero", "full", "random", "urandom", "tty"))
CLONE_NEWNS = 0x0002_0000
MS_RDONLY, MS_NOSUID, MS_REMOUNT, MS_BIND, MS_REC, MS_SLAVE = 1, 2, 32, 4_096, 16_384, 1 << 19

_libc = ctypes.CDLL(None, use_errno=True)


def protect() -> None:
    """Make the devices read-only for this thread, and for the threads and processes that it starts from now on.

    It moves the thread to a mount namespace of its own, which still follows the host's mounts. Needs CAP_SYS_ADMIN.
    Raises OSError.
    """
    exposed = [path for path in DEVICES if path.exists() and not os.statvfs(path).f_flag & os.ST_RDONLY]
    if not exposed:
        return
    _check(_libc.unshare(CLONE_NEWNS))
    _mount("/", MS_SLAVE | MS_REC)
    for path in exposed:
        _mount(str(path), MS_BIND, source=str(path))
        _mount(str(path), MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID)


def _mount(target: str, flags: int, *, source: str | None = None) -> None:
    _check(_libc.mount(source and source.encode(), target.encode(), None, ctypes.c_ulong(flags), None))


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"the host's device nodes cannot be protected: {os.strerror(number)}")
