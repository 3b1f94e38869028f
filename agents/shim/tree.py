"""All that a subreaper has started, and its end.

Whatever the work starts, also what called setsid or whose parent has died, is below the subreaper and below nothing
else. So nothing is left exactly when the kernel says that it has no child.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress

from agents.shim.watch import Watch

SETTLE_S = 3.0  # after SIGKILL, until what still lives (in the kernel's hands, or another user's) is given up
BEAT_S = 0.02  # between looks at what is being stopped
LONGEST_BEAT_S = 0.1  # and at what may finish by itself


class Tally:
    """The children that were reaped: how they ended, and what they and their own children used."""

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}
        self.cpu_s = 0.0
        self.max_rss_bytes = 0

    def reap(self) -> bool:
        """Reap all that have ended; whether any child is left."""
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


def alive() -> dict[int, int]:
    """Each process's parent; those that have ended and wait to be reaped are left out."""
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


def below(roots: Iterable[int], parents: dict[int, int]) -> set[int]:
    """The descendants of the roots, by a map of parents."""
    family = set(roots)
    found: set[int] = set()
    while new := {pid for pid, parent in parents.items() if parent in family and pid not in found}:
        found |= new
        family |= new
    return found


def tell(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):  # it has ended; or is another user's: given up in time
            os.kill(pid, number)


def ask(asked: set[int], pids: set[int]) -> None:
    """SIGTERM, once to each."""
    tell(pids - asked, signal.SIGTERM)
    tell(pids - asked, signal.SIGCONT)  # a halted one would not hear
    asked |= pids


def kill(tally: Tally) -> set[int]:
    """SIGKILL to all below; which they were. They are halted first, or else what forks without end would win the race."""
    halted: set[int] = set()
    while new := below([os.getpid()], alive()) - halted:
        tell(new, signal.SIGSTOP)
        halted |= new
    tell(halted, signal.SIGKILL)
    tally.reap()
    return halted


def identities(*descriptors: int) -> set[tuple[int, int]]:
    """Which files these are: two descriptors of one pipe, of whatever process, have the same identity."""
    return {(status.st_dev, status.st_ino) for status in map(os.fstat, descriptors)}


def holders(pids: Iterable[int], files: set[tuple[int, int]]) -> set[int]:
    """Those of the processes that have one of these files open. (Into another user's nobody can look.)"""
    found = set()
    for pid in pids:
        with suppress(OSError):  # it has ended, or is another user's
            for name in os.listdir(f"/proc/{pid}/fd"):
                with suppress(FileNotFoundError):  # just closed
                    status = os.stat(f"/proc/{pid}/fd/{name}")
                    if (status.st_dev, status.st_ino) in files:
                        found.add(pid)
                        break
    return found


def linger(tally: Tally, stopped: set[int], *, output: set[tuple[int, int]], until: float, watch: Watch) -> None:
    """The work has ended. What it left that still holds its output gets until then to finish, with what works for it
    below; the others are told to end at once, and added to `stopped`."""
    beat_s = BEAT_S
    while tally.reap() and time.monotonic() < until and not watch.stops:
        parents = alive()
        family = below([os.getpid()], parents)
        writing = holders(family, output)
        ask(stopped, family - writing - below(writing, parents))
        if not writing:
            return
        watch.wait(min(beat_s, until - time.monotonic()))
        beat_s = min(2 * beat_s, LONGEST_BEAT_S)


def end(tally: Tally, stopped: set[int], *, watch: Watch) -> int:
    """Stop all below, politely and then not; how many could not be stopped. Whatever it stops is added to `stopped`."""
    if not tally.reap():
        return 0
    until = watch.kill_at
    ask(stopped, below([os.getpid()], alive()))
    while tally.reap() and (left_s := until - time.monotonic()) > 0:
        # What was just being forked, and is now nobody's. (What a parent starts to tidy up is left to that parent.)
        ask(stopped, {pid for pid, parent in alive().items() if parent == os.getpid()})
        watch.pause(min(BEAT_S, left_s))
    until = time.monotonic() + SETTLE_S
    while tally.reap() and time.monotonic() < until:
        stopped |= kill(tally)
        time.sleep(BEAT_S)
    return len(below([os.getpid()], alive())) if tally.reap() else 0
