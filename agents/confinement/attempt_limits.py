"""The limits of one attempt, and the reasons for which one is stopped."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

RESUME_BYTES = 64 * 1024  # the largest value that an attempt may save to resume from


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of one attempt. Times are in seconds; None means no limit."""

    timeout_s: float | None = None  # wall clock for the whole attempt
    max_duration_s: float | None = None  # the largest timeout that its agent type allows
    silence_s: float | None = None  # longest time without output or progress
    grace_s: float = 5.0  # between SIGTERM and SIGKILL
    linger_s: float = 2.0  # how long descendants may keep the output open after the main process has ended
    result_bytes: int = 1_000_000  # the largest result that is accepted
    added_bytes: int = 10_000_000  # the largest list of sorties to add
    resume_bytes: int = RESUME_BYTES
    memory_bytes: int | None = None  # of all processes of the attempt together
    # Of the scratch folder and the copy together; also the size of any one file, wherever it is.
    disk_bytes: int | None = None
    tmp_bytes: int = 1_000_000_000  # size of /tmp, which is in memory
    output_bytes: int = 100_000_000  # the largest file among `outputs`
    processes: int | None = None  # at once; threads included where the kernel counts them
    open_files: int | None = None  # per process
    reserve_bytes: int = 0  # free space to keep on the disks that the attempt writes to
    reserve_share: float = 0.1  # an attempt is stopped only if it has written at least this share of the reserve

    @property
    def wall_s(self) -> float | None:
        """The effective wall clock limit: the smaller of the plan's and the agent type's."""
        return min((limit for limit in (self.timeout_s, self.max_duration_s) if limit is not None), default=None)


class StopReason(StrEnum):
    """Why an attempt was stopped. The engine sets the first three, drivers the others. Either may set LEASE_LOST."""

    CANCELLED = "cancelled"
    LEASE_LOST = "lease_lost"
    DRAINED = "drained"
    TIMEOUT = "timeout"
    SILENCE = "silence"
    MEMORY = "memory"
    DISK = "disk"
    PROCESSES = "processes"
    DISK_FULL = "disk_full"
