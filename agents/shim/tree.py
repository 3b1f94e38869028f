"""All that a subreaper has started, and its end.

Whatever the work starts, also what called setsid or whose parent has died, is below the subreaper and below nothing
else. So nothing is left exactly when the kernel says that it has no child.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

SETTLE_S = 3.0  # after SIGKILL, until what still lives (in the kernel's hands, or another user's) is given up
BEAT_S = 0.02  # between looks at what is being stopped


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


def kill(tally: Tally) -> None:
    """SIGKILL to all below. They are halted first, or else what forks without end would win the race."""
    halted: set[int] = set()
    while new := below([os.getpid()], alive()) - halted:
        tell(new, signal.SIGSTOP)
        halted |= new
    tell(halted, signal.SIGKILL)
    tally.reap()


def end(tally: Tally, grace_s: float, wake: select.poll, drain: Callable[[], None]) -> int:
    """Stop all below, politely and then not; how many could not be stopped. `wake` ends a wait early, `drain` clears it."""
    if not tally.reap():
        return 0
    asked: set[int] = set()
    until = time.monotonic() + grace_s
    ask(asked, below([os.getpid()], alive()))
    while tally.reap() and time.monotonic() < until:
        # What was just being forked, and is now nobody's. (What a parent starts to tidy up is left to that parent.)
        ask(asked, {pid for pid, parent in alive().items() if parent == os.getpid()})
        wake.poll(BEAT_S * 1000)
        drain()
    until = time.monotonic() + SETTLE_S
    while tally.reap() and time.monotonic() < until:
        kill(tally)
        time.sleep(BEAT_S)
    return len(below([os.getpid()], alive())) if tally.reap() else 0
