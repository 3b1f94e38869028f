"""Executes a program that is signalled when its parent dies and, if requested, does not run as root.

    python -I -S launch.py PARENT SIGNAL IDENTITY PROGRAM ARGUMENT…

PARENT is the pid of the supervisor. SIGNAL is sent by the kernel when the supervisor dies, so it is sent even after
kill -9. IDENTITY is one of:

same        run as the current user
namespace   run in a user namespace that maps root to nobody: Postgres agrees to run, on files that root owns
nobody      run as the user nobody, for hosts that refuse user namespaces

It is a separate program that imports nothing from the fleet, so it starts quickly. Forks of the fleet's own processes
call its functions instead.
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
    """Enter a user namespace that maps this user to nobody; raises OSError if the host refuses."""
    user, group = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "this host refuses user namespaces")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{NOBODY} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{NOBODY} {group} 1")


def become_nobody() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def die_with_parent(signal_number: int) -> None:
    """Get this signal when the parent dies. Check afterwards that the parent is alive. Has an effect only on Linux.

    A change of user clears the setting in the kernel.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0)


def follow_parent(parent: int, signal_number: int) -> None:
    """Get this signal when the parent dies, and exit if it is dead already."""
    die_with_parent(signal_number)
    if os.getppid() != parent:  # it died before the setting took effect
        sys.exit(f"The parent process {parent} has ended.")


def main() -> None:
    parent, signal_number, identity, *argv = sys.argv[1:]
    {"same": lambda: None, "namespace": enter_namespace, "nobody": become_nobody}[identity]()
    follow_parent(int(parent), int(signal_number))
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    main()
