"""The processes that a supervisor started, written down so that its successor finds them after a kill -9.

A pid alone may by then be somebody else's; a pid and the time at which it started is one process for ever.
Most children have died with the supervisor (launch.py); these are the ones that did not, or not yet.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from fleet.config.home import Home

KILLED_S = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    name: str
    pid: int
    started: float  # as psutil tells it, in seconds since the epoch
    stop_signal: int
    grace_s: float

    def process(self) -> psutil.Process | None:
        """The process, if it is still the same one and not merely unreaped."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return None
        return process if same else None


class Register:
    """The children that run now, in the order in which they were started; on disk before anything relies on them."""

    def __init__(self, home: Home) -> None:
        self._file = home.run / "children.json"
        self._children: dict[str, Child] = {}

    def add(self, *, name: str, pid: int, stop_signal: int, grace_s: float) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended already, and its end is seen elsewhere
            started = psutil.Process(pid).create_time()
            self._children[name] = Child(name=name, pid=pid, started=started, stop_signal=stop_signal, grace_s=grace_s)
            self._write()

    def remove(self, name: str) -> None:
        if self._children.pop(name, None) is not None:
            self._write()

    def end_orphans(self, say: Callable[[str], None]) -> list[str]:
        """End what of an earlier supervisor still runs, the last started first; the names. Hold its lock meanwhile."""
        left = self.orphans()
        for orphan in left:
            say(f"{orphan.name}: stopping what an earlier supervisor left")
            _stop(orphan)
        self._write()
        return [orphan.name for orphan in left]

    def orphans(self) -> list[Child]:
        """What of an earlier supervisor still runs, the last started first. While one runs these are its children."""
        try:
            noted = [Child(**entry) for entry in json.loads(self._file.read_text())]
        except (FileNotFoundError, ValueError, TypeError):
            return []
        return [child for child in reversed(noted) if child.process() is not None]

    def _write(self) -> None:
        draft = Path(f"{self._file}.new")
        draft.write_text(json.dumps([asdict(child) for child in self._children.values()]))
        draft.replace(self._file)


def _stop(child: Child) -> None:
    """End an orphan as its supervisor would have: its signal, its grace, then the hard way with all its session.

    Its descendants have sessions of their own and end with it; those that do not have its grace again.
    """
    process = child.process()
    if process is None:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        family = process.children(recursive=True)
        wake(child.pid)
        process.send_signal(child.stop_signal)
        _kill(wait([process], seconds=child.grace_s))
        _kill(wait(family, seconds=child.grace_s))
    end_session(child.pid)


def wait(processes: Sequence[psutil.Process], *, seconds: float) -> list[psutil.Process]:
    """Wait until they have ended; those that have not. psutil's own waits also for a parent that reaps nobody."""
    deadline = time.monotonic() + seconds
    while (alive := [one for one in processes if _alive(one)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return alive


def _kill(processes: Sequence[psutil.Process]) -> None:
    for one in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    wait(processes, seconds=KILLED_S)


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wake(pid: int) -> None:
    """SIGCONT to a process and all below it. What is halted does not hear that it is to end, and those that a server leaves
    halted behind keep its successor from its memory."""
    with contextlib.suppress(psutil.Error):
        server = psutil.Process(pid)
        for one in [server, *server.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                one.send_signal(signal.SIGCONT)


def end_session(leader: int) -> None:
    """Kill what a child has left in the session that it led."""
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if pid != os.getpid() and os.getsid(pid) == leader:
                os.kill(pid, signal.SIGKILL)
