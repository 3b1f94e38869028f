"""Measures the CPU time and memory of a process and its descendants.

Memory is the proportional set size where the kernel provides it (smaps_rollup, proc(5)): memory that several processes
share is divided among them. Otherwise it is the resident set size, in which shared memory counts once per process.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from agents.shim import tree


@dataclass(frozen=True, slots=True)
class Use:
    """What a process and its descendants use. `cpu_s` is processor seconds since each began, with ended children."""

    cpu_s: float
    memory_bytes: int
    processes: int


def measure(pid: int) -> Use:
    """Measure a process and its descendants. All figures are 0 if there is no such process."""
    cpu_s, memory, count = 0.0, 0, 0
    for member in (pid, *descendants(pid)):
        with suppress(psutil.Error):  # it has ended since
            process = psutil.Process(member)
            with process.oneshot():
                times, ended = process.cpu_times(), process.status() == psutil.STATUS_ZOMBIE
            cpu_s += times.user + times.system + times.children_user + times.children_system
            memory += 0 if ended else proportional(member)
            count += not ended
    return Use(cpu_s, memory, count)


def descendants(pid: int) -> list[int]:
    """The descendants of a process, parents first. The cost does not depend on the host's other processes."""
    pids = _children(pid)
    if pids is None:  # a kernel without CONFIG_PROC_CHILDREN
        return sorted(tree.descendants([pid], tree.process_parents()))
    for member in pids:  # the loop appends to it
        pids.extend(_children(member) or ())
    return pids


def resident(pids: Iterable[int]) -> int:
    """Bytes of resident memory, shared memory counted per process: cheap, and never less than `proportional`."""
    total = 0
    for pid in pids:
        with suppress(OSError, IndexError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return total * os.sysconf("SC_PAGE_SIZE")


def proportional(pid: int) -> int:
    """Bytes of memory of a process, with its share of shared memory."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return resident([pid])


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
