"""Processes that outlive the one that started them become the supervisor's children instead of init's (a subreaper,
Linux only), whatever session they are in: so it can end all of them before it ends itself.
"""

from __future__ import annotations

import contextlib
import os
import signal

import psutil

from fleet import processes

KILL_S = 10  # how long to go on killing what forks meanwhile


def end_all(*, grace_s: float) -> list[str]:
    """End every descendant of this process, if it adopts; the names of those that were there."""
    if not processes.is_subreaper():
        return []
    left = _descendants()
    names = [_name(process) for process in left]
    for process in left:
        for what in (signal.SIGCONT, signal.SIGTERM):
            with contextlib.suppress(psutil.Error):
                process.send_signal(what)
    psutil.wait_procs(left, timeout=grace_s)
    for _ in range(KILL_S):
        if not (left := _descendants()):
            break
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=1)
    return names


def zombies() -> set[int]:
    """Children that have ended and nobody has waited for: adopted ones, or ours in the moment before we do."""
    if not processes.is_subreaper():
        return set()
    return {child.pid for child in psutil.Process().children() if _status(child) == psutil.STATUS_ZOMBIE}


def bury(pids: set[int]) -> None:
    """Wait for ended children that nobody else will wait for."""
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def _descendants() -> list[psutil.Process]:
    bury(zombies())
    return [p for p in psutil.Process().children(recursive=True) if _status(p) != psutil.STATUS_ZOMBIE]


def _status(process: psutil.Process) -> str:
    try:
        return str(process.status())
    except psutil.Error:
        return str(psutil.STATUS_DEAD)


def _name(process: psutil.Process) -> str:
    try:
        return f"{process.name()} ({process.pid})"
    except psutil.Error:
        return str(process.pid)
