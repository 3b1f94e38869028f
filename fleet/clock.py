"""The time by the database's clock, by which all rows are written: ages are told by it, whatever this host's clock says."""

from __future__ import annotations

import time
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


def _counted() -> float:
    """Seconds that nobody sets; those that a host sleeps are among them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
