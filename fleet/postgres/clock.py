"""The time by the database's clock, by which all rows are written: ages are told by it, whatever this host's clock says."""

from __future__ import annotations

import time
from collections import deque
from datetime import datetime, timedelta

from django.db import connection

FRESH_S = 60.0

_read: tuple[datetime, float] | None = None  # what the database said, and this host's own count of seconds then


def now() -> datetime:
    """As the database told it at most a minute ago, counted on since."""
    global _read
    if _read is None or _counted() - _read[1] > FRESH_S:
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            _read = cursor.fetchone()[0], _counted()
    told, then = _read
    return told + timedelta(seconds=_counted() - then)


class Pace:
    """Whether the database's clock has kept pace with this process's monotonic one: nobody has set it (or thawed a frozen
    host, which comes to the same) for `over_s`, as far as this process could see."""

    def __init__(self, *, over_s: float, tolerance_s: float) -> None:
        self._over_s, self._tolerance_s = over_s, tolerance_s
        self.stepped = False  # whether it was seen to be set, ever
        self._began: float | None = None
        self._ahead: deque[tuple[float, float]] = deque()  # when it was asked, and how far ahead it was

    def look(self) -> bool:
        """Ask it once more. False also where it took too long to answer to tell."""
        asked_at = time.monotonic()
        with connection.cursor() as cursor:
            cursor.execute("SELECT extract(epoch FROM clock_timestamp())::float8")
            (told,) = cursor.fetchone()
        now = time.monotonic()
        if now - asked_at > self._tolerance_s:
            return False
        ahead = told - now
        while len(self._ahead) > 1 and self._ahead[0][0] < now - self._over_s:
            self._ahead.popleft()
        if any(abs(ahead - earlier) > 2 * self._tolerance_s for _, earlier in self._ahead):
            self._ahead.clear()
            self._began, self.stepped = None, True
        if self._began is None:
            self._began = now
        self._ahead.append((now, ahead))
        return now - self._began >= self._over_s


def _counted() -> float:
    """Seconds that nobody sets; those that a host sleeps are among them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
