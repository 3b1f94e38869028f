"""The process tree below a subreaper: finding, signalling and ending it.

Every process that the workload starts stays below the subreaper, even if it calls setsid or its parent dies. So
nothing is left exactly when the kernel reports that the subreaper has no children.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress

from agents.shim.watch import WorkloadWatch

SETTLE_S = 3.0  # after SIGKILL, until survivors (stuck in the kernel, or another user's) are given up
POLL_S = 0.02  # between checks of processes that are being stopped
MAX_POLL_S = 0.1  # between checks of processes that may finish on their own


class Children:
    """Reaps children. Keeps their exit statuses, and what they and their own children used."""

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}
        self.cpu_s = 0.0
        self.max_rss_bytes = 0

    def reap(self) -> bool:
        """Reap all children that have ended. Returns whether any child is left."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            self.statuses[pid] = status
            self.cpu_s += usage.ru_utime + usage.ru_stime
            self.max_rss_bytes = max(self.max_rss_bytes, usage.ru_maxrss * 1024)


def process_parents() -> dict[int, int]:
    """Map the pid of every process on the host to that of its parent. Zombies are left out."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    state, parent = file.read().rpartition(b")")[2].split()[:2]
            except OSError:  # it has ended since
                continue
            if state not in b"ZX":
                parents[int(name)] = int(parent)
    return parents


def descendants(roots: Iterable[int], parents: dict[int, int]) -> set[int]:
    """The descendants of the roots, given a map from pids to parents."""
    family = set(roots)
    below: set[int] = set()
    while new := {pid for pid, parent in parents.items() if parent in family and pid not in below}:
        below |= new
        family |= new
    return below


def send_signal(pids: Iterable[int], number: int) -> None:
    """Signal each process that still exists and belongs to this user."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def terminate(terminated: set[int], pids: set[int]) -> None:
    """Send SIGTERM to the processes that are not in `terminated` yet, and add them to it."""
    send_signal(pids - terminated, signal.SIGTERM)
    send_signal(pids - terminated, signal.SIGCONT)  # a halted process would not act on it
    terminated |= pids


def kill(children: Children) -> set[int]:
    """Kill all descendants, and return their pids. They are halted first, in case one of them forks endlessly."""
    halted: set[int] = set()
    while new := descendants([os.getpid()], process_parents()) - halted:
        send_signal(new, signal.SIGSTOP)
        halted |= new
    send_signal(halted, signal.SIGKILL)
    children.reap()
    return halted


def identities(*descriptors: int) -> set[tuple[int, int]]:
    """Device and inode of each descriptor. They are equal for two descriptors of one pipe, in any processes."""
    return {(status.st_dev, status.st_ino) for status in map(os.fstat, descriptors)}


def holders(pids: Iterable[int], files: set[tuple[int, int]]) -> set[int]:
    """The processes that have one of these files open. Other users' processes cannot be inspected, and are left out."""
    holding = set()
    for pid in pids:
        with suppress(OSError):  # it has ended, or is another user's
            for name in os.listdir(f"/proc/{pid}/fd"):
                with suppress(FileNotFoundError):  # just closed
                    status = os.stat(f"/proc/{pid}/fd/{name}")
                    if (status.st_dev, status.st_ino) in files:
                        holding.add(pid)
                        break
    return holding


def linger(
    children: Children, stopped: set[int], *, output: set[tuple[int, int]], deadline: float, watch: WorkloadWatch
) -> None:
    """Wait until `deadline` for processes that the ended workload left and that still hold its output.

    Their descendants may finish too. All others are terminated at once and added to `stopped`.
    """
    poll_s = POLL_S
    while children.reap() and time.monotonic() < deadline and not watch.must_stop:
        parents = process_parents()
        family = descendants([os.getpid()], parents)
        writing = holders(family, output)
        terminate(stopped, family - writing - descendants(writing, parents))
        if not writing:
            return
        watch.wait(min(poll_s, deadline - time.monotonic()))
        poll_s = min(2 * poll_s, MAX_POLL_S)


def end(children: Children, stopped: set[int], *, watch: WorkloadWatch) -> int:
    """Terminate all descendants, then kill the rest. Adds them to `stopped`, and returns the number of survivors."""
    if not children.reap():
        return 0
    deadline = watch.kill_at
    terminate(stopped, descendants([os.getpid()], process_parents()))
    while children.reap() and (left_s := deadline - time.monotonic()) > 0:
        # Processes that were just being forked, and whose parent has ended. A process that another parent starts while
        # it cleans up is left to that parent.
        terminate(stopped, {pid for pid, parent in process_parents().items() if parent == os.getpid()})
        watch.wait_for_child(min(POLL_S, left_s))
    deadline = time.monotonic() + SETTLE_S
    while children.reap() and time.monotonic() < deadline:
        stopped |= kill(children)
        time.sleep(POLL_S)
    return len(descendants([os.getpid()], process_parents())) if children.reap() else 0
