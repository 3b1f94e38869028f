"""Processes of this host: how one is identified, how one is ended, and whose death is noticed by whom (Linux prctl(2)).

A pid is reused; a pid together with its start time is not. The start time counts in seconds since boot, as the kernel
counts it (proc(5), field 22 of /proc/PID/stat), so setting the host's clock changes nothing.

`fleet/services/supervision/launch.py` and `agents/shim` repeat two of these calls: they must import nothing of the fleet.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37


def become_subreaper() -> None:
    """Adopt the descendants whose parent dies, whatever session they are in. Does nothing outside Linux."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def is_subreaper() -> bool:
    if not sys.platform.startswith("linux"):
        return False
    answer = ctypes.c_int(0)
    ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0)
    return bool(answer.value)


def die_with_parent(number: signal.Signals) -> None:
    """Get this signal when the parent dies. Does nothing outside Linux. Check afterwards that the parent still lives."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


def started(pid: int) -> float | None:
    """A process's start time in seconds since boot; None where it does not exist or is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return None if state in "ZX" else int(fields[18]) / _TICKS


def is_alive(*, pid: int | None, start_time: float | None) -> bool:
    """Whether the recorded process still runs; another process with its pid does not count."""
    return pid is not None and start_time is not None and started(pid) == start_time


def end(recorded: list[tuple[int, float]], *, within_s: float) -> None:
    """End processes that are not our children: SIGTERM, then SIGKILL. Each is identified again before each signal."""
    for number, patience_s in ((signal.SIGTERM, within_s), (signal.SIGKILL, 2.0)):
        left = [pid for pid, start_time in recorded if is_alive(pid=pid, start_time=start_time)]
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + patience_s
        while left and time.monotonic() < deadline:
            time.sleep(0.05)
            left = [pid for pid, start_time in recorded if is_alive(pid=pid, start_time=start_time)]
