"""Become another program, as a child that its parent's death stops and, if asked, as one that is not root.

    python -I -S launch.py PARENT SIGNAL IDENTITY PROGRAM ARGUMENT…

PARENT is the pid of the supervisor, SIGNAL what this process is to get when the supervisor dies (the kernel sends it,
so it also works after kill -9). IDENTITY is `same`, `namespace` (a user namespace in which root is called nobody:
Postgres then agrees to run, on files that root owns) or `nobody` (that user itself, for hosts that refuse namespaces).

It runs before the program and in its stead, so it imports nothing of the fleet.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

NOBODY = 65534
_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1


def enter_namespace() -> None:
    """Move into a user namespace where this user is called nobody; OSError where the host refuses."""
    user, group = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "user namespaces are refused here")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{NOBODY} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{NOBODY} {group} 1")


def become_nobody() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def follow_parent(parent: int, signal_number: int) -> None:
    """Get the signal when the parent dies. A change of user forgets the wish, so it comes after those."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal_number)
    if os.getppid() != parent:  # it died before the wish was known
        sys.exit(f"The process {parent} that started this one is gone.")


def main() -> None:
    parent, signal_number, identity, *argv = sys.argv[1:]
    {"same": lambda: None, "namespace": enter_namespace, "nobody": become_nobody}[identity]()
    follow_parent(int(parent), int(signal_number))
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    main()
