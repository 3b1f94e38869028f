"""Enforces the disk limits of an attempt while it runs, and those of memory and processes if no cgroup does.

Memory is checked a few times a second: first the resident sizes, which are cheap to read and never too small, and only
if these exceed the limit the proportional ones. The scratch folder has no such shortcut. It is walked in slices of a
few milliseconds, so that the output keeps flowing however many files there are.
"""

from __future__ import annotations

import errno
import math
import os
import stat
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from agents import usage
from agents.confinement.attempt_limits import Limits, StopReason
from agents.shim import beneath
from fleet.host import processes

MEMORY_S = 0.25  # between checks
DISK_S = 1.0
RESERVE_S = 0.5
SLICE_S = 0.02  # time budget of one slice of the walk
PAUSE_S = 0.2  # between slices
ENTRIES = 200  # of folders, between checks of the clock
BLOCK = 512  # bytes per block of st_blocks (stat(2))
ENTRY_BYTES = 4_096  # the least that a file or folder counts: an empty one takes no block, but an inode
INODES_RESERVED = 0.05  # with a smaller share of free inodes, workloads that may have used them up are stopped
INODES_USED = 20_000  # since the attempt began, before it may be stopped for that
UNMEASURABLE = 1 << 60  # bytes counted for what cannot be measured: a path beyond PATH_MAX, a folder that stays locked
LISTABLE = stat.S_IRUSR | stat.S_IXUSR
MAX_UNLOCKS = 3  # how often one walk makes a folder accessible


class Quota:
    """The quota of one attempt. Create it before the workload begins, so that the fleet's own files do not count.

    The scratch folder and the copy of a repository are measured, with the deleted files that processes have open on
    their disks; for other `folders`, only the free space is checked.
    `shim` is the pid of the attempt's shim, whose descendants are measured. `next_at` is when to call `check` again, on
    the monotonic clock.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        scratch: Path,
        copy: Path | None = None,
        folders: Sequence[Path] = (),
        slice_s: float = SLICE_S,
    ) -> None:
        self._limits, self._slice_s = limits, slice_s
        self.shim = 0
        self._measured = (scratch,) if copy is None else (scratch, copy)
        self._folders = (*self._measured, *folders)
        now = time.monotonic()
        self._memory_at = math.inf if limits.memory_bytes is None and limits.processes is None else now
        self._reserve_at = now + RESERVE_S if limits.reserve_bytes else math.inf
        self._disk_at = math.inf if limits.disk_bytes is None else now + DISK_S
        self._initial_inodes = {folder: _inodes(folder)[0] for folder in self._folders}
        self._walk: Iterator[int] | None = None
        self._walked_bytes = 0
        self._initial_bytes = 0 if limits.disk_bytes is None else sum(self._sizes())
        self.used = 0  # bytes or processes, once a limit is exceeded

    @property
    def next_at(self) -> float:
        return min(self._memory_at, self._disk_at, self._reserve_at)

    def check(self) -> StopReason | None:
        """Run the checks that are due. Returns the limit that is exceeded, if any, with the amount in `used`."""
        now = time.monotonic()
        if now >= self._memory_at:
            self._memory_at = now + MEMORY_S
            pids = usage.descendants(self.shim)
            if self._limits.processes is not None and len(pids) > self._limits.processes:
                self.used = len(pids)
                return StopReason.PROCESSES
            if self._memory_exceeded(pids):
                return StopReason.MEMORY
        if now >= self._reserve_at:
            self._reserve_at = now + RESERVE_S
            if self._reserve_used() or self._inodes_used():
                return StopReason.DISK_FULL
        if now >= self._disk_at and self._disk_exceeded(deadline=now + self._slice_s):
            return StopReason.DISK
        return None

    def check_at_end(self) -> None:
        """Set `used` if the scratch folder exceeds the disk limit after the last process has ended, else to 0."""
        self._walk, self.used = None, 0
        if self._limits.disk_bytes is not None:
            self._disk_exceeded(deadline=math.inf)

    def _sizes(self) -> Iterator[int]:
        """The sizes of all files that count. The deleted ones are first: a file that is deleted meanwhile counts once."""
        counted: set[int] = set()
        if self.shim:
            yield from _deleted_sizes(usage.descendants(self.shim), _devices(self._measured), counted)
        for folder in self._measured:
            yield from _sizes(folder, counted)

    def _reserve_used(self) -> bool:
        """Whether a disk of the attempt is nearly full, and it wrote at least `reserve_share` of the reserve."""
        free = min((_free_bytes(folder) for folder in self._folders), default=math.inf)
        if free >= self._limits.reserve_bytes:
            return False
        written = sum(map(_written_bytes, (self.shim, *usage.descendants(self.shim))))
        if written < self._limits.reserve_bytes * self._limits.reserve_share:
            return False
        self.used = int(free)
        return True

    def _inodes_used(self) -> bool:
        """Whether a disk of the attempt has hardly any inodes left, and lost many while the attempt ran."""
        for folder in self._folders:
            free, total = _inodes(folder)
            if free < total * INODES_RESERVED and self._initial_inodes[folder] - free > INODES_USED:
                self.used = int(_free_bytes(folder))
                return True
        return False

    def _memory_exceeded(self, pids: list[int]) -> bool:
        limit = self._limits.memory_bytes
        if limit is None or processes.resident_bytes(pids) <= limit:
            return False
        self.used = sum(map(processes.proportional_bytes, pids))
        return self.used > limit

    def _disk_exceeded(self, *, deadline: float) -> bool:
        limit = self._limits.disk_bytes
        assert limit is not None
        if self._walk is None:
            self._walk, self._walked_bytes = self._sizes(), 0
        for number, size in enumerate(self._walk, start=1):
            self._walked_bytes += size
            if self._walked_bytes - self._initial_bytes > limit:
                self.used = self._walked_bytes - self._initial_bytes
                return True
            if number % ENTRIES == 0 and time.monotonic() > deadline:
                self._disk_at = time.monotonic() + PAUSE_S
                return False
        self._walk, self._disk_at = None, time.monotonic() + DISK_S
        return False


def _free_bytes(folder: Path) -> float:
    """Bytes that are free for unprivileged users on the folder's disk."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return math.inf
    return status.f_bavail * status.f_frsize


def _inodes(folder: Path) -> tuple[int, int]:
    """The free and the total inodes of the folder's disk; (0, 0) if the file system has no such limit."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return 0, 0
    return status.f_favail, status.f_files


def _written_bytes(pid: int) -> int:
    """Bytes that a process and its ended children have written to disks (proc(5))."""
    with suppress(OSError), open(f"/proc/{pid}/io") as file:
        for line in file:
            if line.startswith("write_bytes:"):
                return int(line.split()[1])
    return 0


def _devices(folders: Sequence[Path]) -> set[int]:
    devices = set()
    for folder in folders:
        with suppress(OSError):
            devices.add(folder.stat().st_dev)
    return devices


def _deleted_sizes(pids: list[int], devices: set[int], counted: set[int]) -> Iterator[int]:
    """The size on disk of each deleted file that these processes have open on one of the devices; 0 for other files.

    Adds the inodes of these files to `counted`.
    """
    for pid in pids:
        with suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
            for entry in entries:
                size = 0
                with suppress(OSError):  # it was closed
                    if os.readlink(entry.path).endswith(" (deleted)"):
                        status = os.stat(entry.path)
                        if not status.st_nlink and status.st_dev in devices and status.st_ino not in counted:
                            counted.add(status.st_ino)
                            size = status.st_blocks * BLOCK
                yield size


def _sizes(folder: Path, counted: set[int]) -> Iterator[int]:
    """The size on disk of each entry below a folder, at least ENTRY_BYTES, except for the inodes in `counted`.

    Links are not followed, and a hard-linked file counts once. A subfolder that its owner may not list (chmod 0) is
    made accessible, so that its content counts.
    """
    folders, linked_inodes, unlocked = [os.fspath(folder)], set(), Counter[str]()
    while folders:
        path = folders.pop()
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:  # it was deleted
                        continue
                    if stat.S_ISDIR(status.st_mode):
                        folders.append(entry.path)
                    elif status.st_ino in counted:  # a nameless file has got a name (linkat)
                        continue
                    elif status.st_nlink > 1:
                        if status.st_ino in linked_inodes:
                            continue
                        linked_inodes.add(status.st_ino)
                    yield max(ENTRY_BYTES, status.st_blocks * BLOCK)
        except PermissionError:
            unlocked[path] += 1
            if unlocked[path] > MAX_UNLOCKS:  # the workload keeps locking it
                yield UNMEASURABLE
            elif _unlock(folder, path):
                folders.append(path)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                yield UNMEASURABLE  # otherwise it was deleted


def _unlock(top: Path, path: str) -> bool:
    """Make a folder below `top` accessible to this user, without following links. Returns whether to try again."""
    parts = Path(path).relative_to(top).parts
    with ExitStack() as descriptors:
        try:
            parent = beneath.open_path(top.resolve(), folder=True)
            descriptors.callback(os.close, parent)
            for depth in range(len(parts) + 1):
                name = os.path.join(".", *parts[:depth])
                resolve = beneath.BENEATH | beneath.NO_LINKS
                folder = beneath.open_at(parent, name, os.O_PATH | os.O_DIRECTORY, resolve=resolve)
                descriptors.callback(os.close, folder)
                mode = stat.S_IMODE(os.fstat(folder).st_mode)
                if mode & LISTABLE != LISTABLE:
                    os.chmod(f"/proc/self/fd/{folder}", mode | LISTABLE)
        except PermissionError:  # it was locked again, or belongs to another user
            return True
        except OSError:  # it was deleted
            return False
    return True
