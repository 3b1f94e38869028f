"""What processes use: a process with all that it has started and that has not ended.

Memory is the proportional set size, in which what several processes share is divided among them, where the kernel tells
(smaps_rollup, proc(5)), else the resident set size, in which each counts it in full.
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
    """Of a process and its descendants. `cpu_s`: processor seconds since each began, those of children that have ended
    included."""

    cpu_s: float
    memory_bytes: int
    processes: int


def of(pid: int) -> Use:
    """Of a process and its descendants; nothing where there is no such process."""
    cpu_s, memory, count = 0.0, 0, 0
    for one in (pid, *below(pid)):
        with suppress(psutil.Error):  # it has ended since
            process = psutil.Process(one)
            with process.oneshot():
                times, ended = process.cpu_times(), process.status() == psutil.STATUS_ZOMBIE
            cpu_s += times.user + times.system + times.children_user + times.children_system
            memory += 0 if ended else proportional(one)
            count += not ended
    return Use(cpu_s, memory, count)


def below(pid: int) -> list[int]:
    """The descendants of a process, parents first. Its cost grows with them, not with the host's processes."""
    found = _children(pid)
    if found is None:  # a kernel without CONFIG_PROC_CHILDREN
        return sorted(tree.below([pid], tree.alive()))
    for one in found:
        found.extend(_children(one) or ())
    return found


def resident(pids: Iterable[int]) -> int:
    """What they have in memory, each in full: cheap to ask for, and never less than `proportional`."""
    total = 0
    for pid in pids:
        with suppress(OSError, IndexError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return total * os.sysconf("SC_PAGE_SIZE")


def proportional(pid: int) -> int:
    """What a process has in memory, its part of what it shares."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return resident([pid])


def _children(pid: int) -> list[int] | None:
    """None where the kernel does not tell."""
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    told = False
    for thread in threads:
        with suppress(FileNotFoundError, ProcessLookupError):
            found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
            told = True
    return found if told or not Path(f"/proc/{pid}/task").exists() else None
