"""The processes that a supervisor started, written down so that its successor finds them after a kill -9.

A pid alone may by then be somebody else's; a pid and the time at which it started is one process for ever.
Most children have died with the supervisor (launch.py); these are the ones that did not, or not yet.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from fleet.home import Home


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

    def orphans(self) -> list[Child]:
        """Those of an earlier supervisor that still run, the last started first."""
        try:
            noted = [Child(**entry) for entry in json.loads(self._file.read_text())]
        except (FileNotFoundError, ValueError, TypeError):
            return []
        return [child for child in reversed(noted) if child.process() is not None]

    def _write(self) -> None:
        draft = Path(f"{self._file}.new")
        draft.write_text(json.dumps([asdict(child) for child in self._children.values()]))
        draft.replace(self._file)


def stop(child: Child) -> None:
    """End an orphan as its supervisor would have: its signal, its grace, then the hard way with all its session."""
    process = child.process()
    if process is None:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGCONT)  # one that is paused would not hear
        process.send_signal(child.stop_signal)
        try:
            process.wait(child.grace_s)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(10)
    end_session(child.pid)


def end_session(leader: int) -> None:
    """Kill what a child has left in the session that it led."""
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if pid != os.getpid() and os.getsid(pid) == leader:
                os.kill(pid, signal.SIGKILL)
