"""A sandbox for one process and all that it starts: it cannot see some folders, nor into processes outside.

A user namespace of its own (in which everybody is called as outside), so that the kernel refuses it the environment,
memory and descriptors of every process outside: those of the worker and of the fleet's other processes. A mount
namespace of its own, with something empty over each hidden folder; a mount that came from outside cannot be taken away
in a namespace nested in this one. No new privileges.

Root stays root on files, but loses what would let it undo this (CAP_SYS_ADMIN above all), and the raw disks.
It is no wall against root: who runs untrusted work runs the fleet as an ordinary user.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterable

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 4096, 16384, 1 << 18
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
KEPT_BY_ROOT = {0, 1, 3, 4, 5, 6, 7}  # CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID

_libc = ctypes.CDLL(None, use_errno=True)


def enter(hidden: Iterable[str], *, mapped: Callable[[], bool]) -> None:
    """Go in. `mapped` is called in the new user namespace, and says whether `map_identity` was done from outside."""
    _done(_libc.unshare(CLONE_NEWUSER | CLONE_NEWNS))
    if not mapped():
        raise OSError(errno.EPERM, "the user could not be mapped")
    _mount(None, "/", None, MS_REC | MS_PRIVATE)
    for path in hidden:
        cover(path)
    if os.geteuid() == 0:
        for entry in os.scandir("/dev"):
            if stat.S_ISBLK(entry.stat(follow_symlinks=False).st_mode):
                cover(entry.path)
        for number in range(64):
            if number not in KEPT_BY_ROOT:
                _libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)  # refused only for those that the kernel does not know
    _done(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def cover(path: str) -> None:
    """Put something empty over a folder or a file. What is not there needs no cover."""
    if os.path.isdir(path):
        _mount("tmpfs", path, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k,nr_inodes=2,mode=555")
    elif os.path.exists(path):
        _mount("/dev/null", path, None, MS_BIND)


def map_identity(pid: int) -> None:
    """From outside: call everybody in the process's user namespace as here; where only root may, this user alone."""
    for kind, own in (("uid", os.geteuid()), ("gid", os.getegid())):
        with open(f"/proc/self/{kind}_map") as file:
            ranges = [line.split() for line in file]
        try:
            _write(f"/proc/{pid}/{kind}_map", "".join(f"{inside} {inside} {count}\n" for inside, _, count in ranges))
        except PermissionError:
            if kind == "gid":
                _write(f"/proc/{pid}/setgroups", "deny")
            _write(f"/proc/{pid}/{kind}_map", f"{own} {own} 1\n")


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    texts = (None if text is None else os.fsencode(text) for text in (source, target, kind))
    _done(_libc.mount(*texts, ctypes.c_ulong(flags), None if data is None else data.encode()))


def _done(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
