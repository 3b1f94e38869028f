"""The database's clock, which stamps all rows. Ages are computed with it, not with the clock of this host."""

from __future__ import annotations

import time
from collections import deque
from datetime import datetime, timedelta

from django.db import connection

FRESH_S = 60.0

_reading: tuple[datetime, float] | None = None  # the database's time, and this host's boot time at that moment


def now() -> datetime:
    """Return the database's time: read at most FRESH_S seconds ago, plus the seconds since then."""
    global _reading
    if _reading is None or _boot_time() - _reading[1] > FRESH_S:
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            _reading = cursor.fetchone()[0], _boot_time()
    database_time, read_at = _reading
    return database_time + timedelta(seconds=_boot_time() - read_at)


class StepDetector:
    """Detects steps of the database's clock by comparing it with this process's monotonic clock.

    A step means that the clock was set, or that a frozen host was resumed.
    """

    def __init__(self, *, window_s: float, tolerance_s: float) -> None:
        self._window_s, self._tolerance_s = window_s, tolerance_s
        self.stepped = False  # whether a step was ever detected
        self._steady_since: float | None = None
        self._offsets: deque[tuple[float, float]] = deque()  # (monotonic time, database's time minus monotonic time)

    def is_steady(self) -> bool:
        """Read the clock and return whether it was steady for `window_s`. False if the query took too long to tell."""
        requested_at = time.monotonic()
        with connection.cursor() as cursor:
            cursor.execute("SELECT extract(epoch FROM clock_timestamp())::float8")
            (database_time,) = cursor.fetchone()
        now = time.monotonic()
        if now - requested_at > self._tolerance_s:
            return False
        offset = database_time - now
        while len(self._offsets) > 1 and self._offsets[0][0] < now - self._window_s:
            self._offsets.popleft()
        if any(abs(offset - earlier) > 2 * self._tolerance_s for _, earlier in self._offsets):
            self._offsets.clear()
            self._steady_since, self.stepped = None, True
        if self._steady_since is None:
            self._steady_since = now
        self._offsets.append((now, offset))
        return now - self._steady_since >= self._window_s


def _boot_time() -> float:
    """Seconds since boot, including sleep; setting the clock does not change it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
