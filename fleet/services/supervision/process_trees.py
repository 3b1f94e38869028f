"""Process trees below the supervisor: measures their memory, wakes them, waits for them, kills them and reaps them.

On Linux the supervisor is a subreaper: descendants whose parent dies become its children, in any session, so it can end
all of them before it exits.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence

import psutil

from fleet.host import processes

KILL_S = 10  # how long to wait for killed processes, and to keep killing those that keep forking


def memory(roots: Iterable[int]) -> dict[int, int]:
    """Return the memory in bytes of each root pid together with its descendants."""
    children = defaultdict(list)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            children[process.ppid()].append(process.pid)
    totals = {}
    for root in roots:
        tree = [root]
        for pid in tree:
            tree.extend(children[pid])
        totals[root] = sum(map(processes.proportional_bytes, tree))
    return totals


def wake(pid: int) -> None:
    """Send SIGCONT to a process and its descendants.

    A stopped process does not handle its stop signal, and a stopped child of Postgres keeps the shared memory that the
    next server needs.
    """
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGCONT)


def wait(targets: Sequence[psutil.Process], *, seconds: float) -> list[psutil.Process]:
    """Wait until the processes have ended, and return those that have not.

    A zombie counts as ended; psutil's own wait would also wait for a parent that never reaps it.
    """
    deadline = time.monotonic() + seconds
    while (alive := [process for process in targets if _is_alive(process)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return alive


def kill(targets: Sequence[psutil.Process]) -> None:
    """Kill the processes and wait for their end."""
    for process in targets:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    wait(targets, seconds=KILL_S)


def kill_session(leader: int) -> None:
    """Kill the processes that are left in the session of a leader that has ended."""
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if pid != os.getpid() and os.getsid(pid) == leader:
                os.kill(pid, signal.SIGKILL)


def end_descendants(*, grace_s: float) -> list[str]:
    """End every descendant of this process if it is a subreaper, and return their names: SIGTERM, then SIGKILL."""
    if not processes.is_subreaper():
        return []
    remaining = _descendants()
    names = [_name(process) for process in remaining]
    for process in remaining:
        for number in (signal.SIGCONT, signal.SIGTERM):
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)
    psutil.wait_procs(remaining, timeout=grace_s)
    for _ in range(KILL_S):
        if not (remaining := _descendants()):
            break
        for process in remaining:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(remaining, timeout=1)
    return names


def zombies() -> set[int]:
    """Return the children that have ended but are not reaped: adopted ones, and briefly those that we started."""
    if not processes.is_subreaper():
        return set()
    return {child.pid for child in psutil.Process().children() if _status(child) == psutil.STATUS_ZOMBIE}


def reap(pids: set[int]) -> None:
    """Reap ended children that nothing else waits for."""
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def _descendants() -> list[psutil.Process]:
    reap(zombies())
    return [p for p in psutil.Process().children(recursive=True) if _status(p) != psutil.STATUS_ZOMBIE]


def _status(process: psutil.Process) -> str:
    try:
        return str(process.status())
    except psutil.Error:
        return str(psutil.STATUS_DEAD)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _name(process: psutil.Process) -> str:
    try:
        return f"{process.name()} ({process.pid})"
    except psutil.Error:
        return str(process.pid)
