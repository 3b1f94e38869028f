"""Waits for the checks of a quota."""

from __future__ import annotations

import time

from agents.confinement.attempt_limits import StopReason
from agents.confinement.quota import Quota


def first_exceeded(quota: Quota, *, times: int = 1) -> StopReason | None:
    """The first limit that is exceeded within this many checks."""
    for _ in range(times):
        time.sleep(max(0.0, quota.next_at - time.monotonic()))
        if exceeded := quota.check():
            return exceeded
    return None
