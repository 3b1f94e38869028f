"""The registry of the supervisor's children, on disk, so that its successor finds them after a kill -9.

Most children die with the supervisor (fleet/host/launch.py). The successor ends those that are still running. The file
outlives a reboot, so it also says in which boot of the host each process started.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from fleet.config.home import Home
from fleet.host import processes
from fleet.services.supervision import process_trees


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildRecord:
    name: str
    pid: int
    start_time: float  # in seconds since boot
    boot: str
    stop_signal: int
    grace_s: float

    def process(self) -> psutil.Process | None:
        """The process, if it is still the same one and not a zombie."""
        try:
            process = psutil.Process(self.pid)  # before the check: psutil notices if the pid is reused after it
        except psutil.Error:
            return None
        same = self.boot == processes.boot_id() and processes.is_alive(pid=self.pid, start_time=self.start_time)
        return process if same else None


class ChildRegistry:
    """The running children in starting order; on disk before anything relies on them."""

    def __init__(self, home: Home) -> None:
        self._file = home.run / "children.json"
        self._children: dict[str, ChildRecord] = {}

    def add(self, *, name: str, pid: int, stop_signal: int, grace_s: float) -> None:
        start_time = processes.start_time_of(pid)
        if start_time is None:  # it has already ended, which its runner notices
            return
        self._children[name] = ChildRecord(
            name=name,
            pid=pid,
            start_time=start_time,
            boot=processes.boot_id(),
            stop_signal=stop_signal,
            grace_s=grace_s,
        )
        self._write()

    def remove(self, name: str) -> None:
        if self._children.pop(name, None) is not None:
            self._write()

    def end_orphans(self, say: Callable[[str], None]) -> list[str]:
        """End the running children of an earlier supervisor, last started first, and return their names.

        The caller must hold the supervisor's lock.
        """
        orphans = self.orphans()
        for orphan in orphans:
            say(f"{orphan.name}: stopping the process that an earlier supervisor left")
            _stop(orphan)
        self._write()
        return [orphan.name for orphan in orphans]

    def orphans(self) -> list[ChildRecord]:
        """Return the recorded children that still run, last started first; orphans only if no supervisor runs."""
        try:
            recorded = [ChildRecord(**entry) for entry in json.loads(self._file.read_text())]
        except (FileNotFoundError, ValueError, TypeError):
            return []
        return [child for child in reversed(recorded) if child.process() is not None]

    def _write(self) -> None:
        draft = Path(f"{self._file}.new")
        draft.write_text(json.dumps([asdict(child) for child in self._children.values()]))
        draft.replace(self._file)


def _stop(child: ChildRecord) -> None:
    """End an orphan as its supervisor would: stop signal, grace period, SIGKILL for it and its session.

    Its descendants have sessions of their own. They should end with it; after another grace period they are killed.
    """
    process = child.process()
    if process is None:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        descendants = process.children(recursive=True)
        process_trees.wake(child.pid)
        process.send_signal(child.stop_signal)
        process_trees.kill(process_trees.wait([process], seconds=child.grace_s))
        process_trees.kill(process_trees.wait(descendants, seconds=child.grace_s))
    process_trees.kill_session(child.pid)
