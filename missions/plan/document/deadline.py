"""The limit on the CPU time of reading a plan. It is not wall time, so a busy machine refuses no plan."""

from __future__ import annotations

import math
import time


class Expired(Exception):
    """The deadline has passed."""


class Deadline:
    """Loops over a plan call `check`, which raises Expired after the deadline. Every 256th call reads the clock."""

    def __init__(self, seconds: float = math.inf) -> None:
        self.seconds = seconds
        self._until = time.thread_time() + seconds
        self._calls = 0

    def check(self) -> None:
        self._calls += 1
        if not self._calls & 0xFF and time.thread_time() > self._until:
            raise Expired
