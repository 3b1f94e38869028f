"""Runs a driver without an engine, records what it reports, and finds the processes that an attempt left behind."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents import drivers
from agents.confinement.attempt_limits import Limits
from agents.drivers import reaper
from agents.drivers.base import AttemptBrief, Evidence, Json, Stop, Stream
from fleet import ids

PATH = frozenset({"PATH"})
FLEET = "tests"


@dataclass
class RecordingReporter:
    """A reporter that records everything, but only the last 64 KiB of each output stream."""

    tails: dict[str, bytes] = field(default_factory=lambda: {"stdout": b"", "stderr": b"", "fleet": b""})
    received_bytes: int = 0
    largest: int = 0
    reports: list[tuple[float | None, str]] = field(default_factory=list)
    resumes: list[Json] = field(default_factory=list)
    has_started: threading.Event = field(default_factory=threading.Event)
    _pid: int = field(init=False)

    def output(self, *, stream: Stream, data: bytes) -> None:
        self.tails[stream] = (self.tails[stream] + data)[-65_536:]
        self.received_bytes += len(data)
        self.largest = max(self.largest, len(data))

    def progress(self, *, fraction: float | None, note: str) -> None:
        self.reports.append((fraction, note))

    def save_resume(self, *, value: Json) -> None:
        self.resumes.append(value)

    def started(self, *, pid: int) -> None:
        self._pid = pid
        self.has_started.set()

    @property
    def pid(self) -> int:
        """The pid of the shim, once it has started: a signal to 0 would go to the tests' own process group."""
        assert self.has_started.wait(60)
        return self._pid

    @property
    def out(self) -> str:
        return self.tails["stdout"].decode()


def brief(scratch: Path, **fields: Any) -> AttemptBrief:
    """A brief with a unique marker, whose work inherits PATH. `fields`: further fields of the brief."""
    return AttemptBrief(
        **{
            "marker": f"{ids.encode(ids.SORTIE, ids.new())}/1",
            "fleet": FLEET,
            "scratch": scratch,
            "env_allow": PATH,
            "limits": Limits(timeout_s=60, grace_s=2),
            **fields,
        }
    )


@dataclass
class DriverRun:
    """One run of a driver, in a separate thread."""

    driver: str
    brief: AttemptBrief
    reporter: RecordingReporter = field(default_factory=RecordingReporter)
    stop: Stop = field(default_factory=Stop)
    evidence: Evidence | None = None
    error: BaseException | None = None

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.evidence = drivers.get(self.driver).run(brief=self.brief, reporter=self.reporter, stop=self.stop)
        except BaseException as error:
            self.error = error

    def end(self, within_s: float = 60) -> Evidence:
        """Wait until the driver returns. Raises what the driver raised."""
        self.thread.join(within_s)
        assert not self.thread.is_alive(), "the driver is still running"
        if self.error is not None:
            raise self.error
        assert self.evidence is not None
        return self.evidence


def surviving_processes(brief: AttemptBrief) -> set[int]:
    """The processes that still carry the attempt's marker."""
    return {process.pid for process in reaper.marked_processes() if process.marker == brief.marker}
