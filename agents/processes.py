"""Which process is meant: a pid is reused, a pid and the moment it started are not.

The moment is counted in seconds since the host's boot, as the kernel does (proc(5), field 22 of /proc/PID/stat), so that
setting the host's clock changes nothing.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def started(pid: int) -> float | None:
    """When a process began, in seconds since boot; None where there is none, or where it is dead and not reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return None if state in "ZX" else int(fields[18]) / _TICKS


def is_alive(*, pid: int | None, start_time: float | None) -> bool:
    """Whether the process that was noted is still there; another one with its pid is not it."""
    return pid is not None and start_time is not None and started(pid) == start_time


def end(noted: list[tuple[int, float]], *, within_s: float) -> None:
    """End processes that are not our children: ask, wait, and kill what does not. Each is checked before each signal."""
    for number, patience_s in ((signal.SIGTERM, within_s), (signal.SIGKILL, 2.0)):
        left = [pid for pid, start_time in noted if is_alive(pid=pid, start_time=start_time)]
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + patience_s
        while left and time.monotonic() < deadline:
            time.sleep(0.05)
            left = [pid for pid, start_time in noted if is_alive(pid=pid, start_time=start_time)]
