"""Identifies, measures and ends processes of this host; configures adoption and inspection.

A pid may be reused; a pid together with its start time is unique until the host is booted again. The start time is in
seconds since boot (proc(5), field 22 of /proc/PID/stat), so setting the clock of the host does not change it.

`agents/shim` repeats some of the calls of prctl(2), because it must not import the fleet. `launch` sets the signal that
a process gets when its parent dies.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37


def become_subreaper() -> None:
    """Adopt descendants whose parent dies, in any session. Has an effect only on Linux."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def is_subreaper() -> bool:
    if not sys.platform.startswith("linux"):
        return False
    flag = ctypes.c_int(0)
    ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(flag), 0, 0, 0)
    return bool(flag.value)


def forbid_inspection() -> None:
    """Prevent other processes of this user from reading the environment and memory of this one.

    Programs that this process starts are not affected. Root can still read everything.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the process could not be protected from other processes (PR_SET_DUMPABLE)")


def start_time_of(pid: int) -> float | None:
    """Return the start time of a process in seconds since boot; None if it does not exist or is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()  # the name in the parentheses may contain any character
    return None if state in "ZX" else int(fields[18]) / _TICKS


def boot_id() -> str:
    """Return the id of this boot of the host, for records of processes that outlive it; "" if the kernel gives none."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


def is_alive(*, pid: int | None, start_time: float | None) -> bool:
    """Whether the recorded process still runs. Another process with the same pid does not count."""
    return pid is not None and start_time is not None and start_time_of(pid) == start_time


def resident_bytes(pids: Iterable[int]) -> int:
    """The resident memory of processes, which is cheap to read.

    Shared memory counts once per process, so the result is never less than that of `proportional_bytes`.
    """
    total = 0
    for pid in pids:
        with suppress(OSError, IndexError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return total * os.sysconf("SC_PAGE_SIZE")


def proportional_bytes(pid: int) -> int:
    """The memory of a process, with its share of shared memory (PSS); its resident memory if the kernel has no PSS."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return resident_bytes([pid])


def end(identities: list[tuple[int, float]], *, within_s: float) -> None:
    """End processes that are not our children, given as (pid, start time): SIGTERM, then SIGKILL.

    Their identity is checked before each signal.
    """
    for number, timeout_s in ((signal.SIGTERM, within_s), (signal.SIGKILL, 2.0)):
        alive = [pid for pid, start_time in identities if is_alive(pid=pid, start_time=start_time)]
        for pid in alive:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + timeout_s
        while alive and time.monotonic() < deadline:
            time.sleep(0.05)
            alive = [pid for pid, start_time in identities if is_alive(pid=pid, start_time=start_time)]
