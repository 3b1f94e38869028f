"""Decides when an attempt must be stopped by its limits, and when to give up waiting for its shim."""

from __future__ import annotations

import math
import time

from agents.confinement.attempt_limits import Limits, StopReason
from agents.confinement.quota import Quota
from agents.drivers.base import Stop
from agents.drivers.shim import SETTLE_S

LEASE_SETTLE_S = 0.25  # after the end of the lease, until the shim counts as halted


class Watchdog:
    """Watches one attempt. Its descriptor is readable when the engine wants the attempt to stop."""

    def __init__(self, limits: Limits, stop: Stop, quota: Quota) -> None:
        self._limits = limits
        self._stop = stop
        self._quota = quota
        self._started_at = self._active_at = time.monotonic()
        self._give_up_at = math.inf
        self.stopped: StopReason | None = None

    def fileno(self) -> int:
        return self._stop.fileno()

    def note_activity(self) -> None:
        """Restart the silence limit."""
        self._active_at = time.monotonic()

    def stop_due(self) -> bool:
        """Check all limits. Returns True once, when the attempt must be stopped, with the reason in `stopped`."""
        if self.stopped is not None:
            return False
        now = time.monotonic()
        if self._stop.reason is not None:
            self.stopped = self._stop.reason
        elif self._limits.wall_s is not None and now - self._started_at >= self._limits.wall_s:
            self.stopped = StopReason.TIMEOUT
        elif self._limits.silence_s is not None and now - self._active_at >= self._limits.silence_s:
            self.stopped = StopReason.SILENCE
        elif exceeded := self._quota.check():
            self.stopped = exceeded
        else:
            return False
        # A running shim kills everything by the end of the lease. If the shim is halted, this process does it.
        lease_over_at = max(now, self._stop.lease_end) + LEASE_SETTLE_S
        self._give_up_at = min(now + self._limits.grace_s + SETTLE_S, lease_over_at)
        return True

    @property
    def given_up(self) -> bool:
        return time.monotonic() >= self._give_up_at

    @property
    def close_timeout_s(self) -> float:
        """How long the shim may still take to end after its output is no longer read."""
        if self.stopped is None:
            return self._limits.grace_s + SETTLE_S
        return max(0.0, self._give_up_at - time.monotonic())

    @property
    def due_at(self) -> float:
        """When the next limit has to be checked, on the monotonic clock."""
        if self.stopped is not None:
            return self._give_up_at
        ends = [self._quota.next_at]
        ends += [] if self._limits.wall_s is None else [self._started_at + self._limits.wall_s]
        ends += [] if self._limits.silence_s is None else [self._active_at + self._limits.silence_s]
        return min(ends)
