"""Measures the CPU time and memory of a process and its descendants."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from agents.shim import tree
from fleet.host import processes


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a process and its descendants use."""

    cpu_s: float  # so far, including that of ended children
    memory_bytes: int
    processes: int


def measure(pid: int) -> Measurement:
    """Measure a process and its descendants. All figures are 0 if there is no such process."""
    cpu_s, memory, count = 0.0, 0, 0
    for member in (pid, *descendants(pid)):
        with suppress(psutil.Error):  # it has ended since
            process = psutil.Process(member)
            with process.oneshot():
                times, ended = process.cpu_times(), process.status() == psutil.STATUS_ZOMBIE
            cpu_s += times.user + times.system + times.children_user + times.children_system
            memory += 0 if ended else processes.proportional_bytes(member)
            count += not ended
    return Measurement(cpu_s, memory, count)


def descendants(pid: int) -> list[int]:
    """The descendants of a process, in no particular order."""
    pids = _children(pid)
    if pids is None:  # a kernel without CONFIG_PROC_CHILDREN; this reads every process of the host
        return list(tree.descendants([pid], tree.process_parents()))
    for member in pids:  # the loop appends to it
        pids.extend(_children(member) or ())
    return pids


def _children(pid: int) -> list[int] | None:
    """The children of a process; None if the kernel does not list them."""
    children: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return children
    listed = False
    for thread in threads:
        with suppress(FileNotFoundError, ProcessLookupError):
            children += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
            listed = True
    return children if listed or not Path(f"/proc/{pid}/task").exists() else None
