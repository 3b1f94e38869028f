"""What one attempt may hold in memory and write to its scratch folder, looked at while it works.

Memory is asked for a few times a second, and only what all processes have in full (which is cheap, and never too little)
unless that is too much. A folder has no such short way: it is walked in slices of a few milliseconds, so that the
attempt's output flows on however many files there are.
"""

from __future__ import annotations

import errno
import math
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from agents import usage
from agents.drivers.base import Limits, StopReason

MEMORY_S = 0.25  # between two looks
DISK_S = 1.0
RESERVE_S = 0.5
SLICE_S = 0.02  # of a walk, at a time
PAUSE_S = 0.2  # between two slices
ENTRIES = 200  # looked at between two looks at the clock
BLOCK = 512  # bytes, of st_blocks (stat(2))
TOO_DEEP = 1 << 60  # bytes that something counts for whose path is longer than PATH_MAX: it cannot be measured


class Quota:
    """Of one attempt; made before its work begins, so that what the fleet wrote there counts for nothing.

    `shim` is the pid below which its processes are, `next_at` when to `look` again, by the monotonic clock.
    """

    def __init__(
        self, limits: Limits, *, scratch: Path, folders: Sequence[Path] = (), slice_s: float = SLICE_S
    ) -> None:
        self._limits, self._scratch, self._slice_s = limits, scratch, slice_s
        self._folders = (scratch, *folders)
        now = time.monotonic()
        self._memory_at = math.inf if limits.memory_bytes is None and limits.processes is None else now
        self._reserve_at = now + RESERVE_S if limits.reserve_bytes else math.inf
        self._disk_at = math.inf if limits.disk_bytes is None else now + DISK_S
        self._walk: Iterator[int] | None = None
        self._seen = 0
        self._before = 0 if limits.disk_bytes is None else sum(_sizes(scratch))
        self.shim = 0
        self.used = 0  # bytes, where a limit was passed

    @property
    def next_at(self) -> float:
        return min(self._memory_at, self._disk_at, self._reserve_at)

    def look(self) -> StopReason | None:
        """Look at what is due; the limit that is passed, with how much is held in `used`."""
        now = time.monotonic()
        if now >= self._memory_at:
            self._memory_at = now + MEMORY_S
            family = usage.below(self.shim)
            if self._limits.processes is not None and len(family) > self._limits.processes:
                self.used = len(family)
                return StopReason.PROCESSES
            if self._memory_passed(family):
                return StopReason.MEMORY
        if now >= self._reserve_at:
            self._reserve_at = now + RESERVE_S
            if self._reserve_touched():
                return StopReason.DISK_FULL
        if now >= self._disk_at and self._disk_passed(until=now + self._slice_s):
            return StopReason.DISK
        return None

    def left_too_much(self) -> bool:
        """Whether more lies in the scratch folder than may, now that nothing runs any more."""
        self._walk, self.used = None, 0
        return self._limits.disk_bytes is not None and self._disk_passed(until=math.inf)

    def _reserve_touched(self) -> bool:
        """Whether a disk that it writes to is nearly full, and it has its part in that."""
        free = min((_free(folder) for folder in self._folders), default=math.inf)
        if free >= self._limits.reserve_bytes:
            return False
        if (
            sum(map(_written, (self.shim, *usage.below(self.shim))))
            < self._limits.reserve_bytes * self._limits.reserve_share
        ):
            return False
        self.used = int(free)
        return True

    def _memory_passed(self, family: list[int]) -> bool:
        limit = self._limits.memory_bytes
        if limit is None or usage.resident(family) <= limit:
            return False
        self.used = sum(map(usage.proportional, family))
        return self.used > limit

    def _disk_passed(self, *, until: float) -> bool:
        limit = self._limits.disk_bytes
        assert limit is not None
        if self._walk is None:
            self._walk, self._seen = _sizes(self._scratch), 0
        for number, size in enumerate(self._walk, start=1):
            self._seen += size
            if self._seen - self._before > limit:
                self.used = self._seen - self._before
                return True
            if number % ENTRIES == 0 and time.monotonic() > until:
                self._disk_at = time.monotonic() + PAUSE_S
                return False
        self._walk, self._disk_at = None, time.monotonic() + DISK_S
        return False


def _free(folder: Path) -> float:
    """Bytes that are free on its disk for who is not root."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return math.inf
    return status.f_bavail * status.f_frsize


def _written(pid: int) -> int:
    """Bytes that a process, and those of its children that have ended, have written to disks (proc(5))."""
    with suppress(OSError), open(f"/proc/{pid}/io") as file:
        for line in file:
            if line.startswith("write_bytes:"):
                return int(line.split()[1])
    return 0


def _sizes(folder: Path) -> Iterator[int]:
    """What each thing in a folder takes on the disk. Links are not followed; a file of several names counts once."""
    folders, linked = [os.fspath(folder)], set()
    while folders:
        try:
            entries = os.scandir(folders.pop())
        except OSError:  # it is gone, or shut to this user
            continue
        with suppress(OSError), entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError as fault:
                    if fault.errno == errno.ENAMETOOLONG:
                        yield TOO_DEEP
                    continue
                if stat.S_ISDIR(status.st_mode):
                    folders.append(entry.path)
                elif status.st_nlink > 1:
                    if status.st_ino in linked:
                        continue
                    linked.add(status.st_ino)
                yield status.st_blocks * BLOCK
