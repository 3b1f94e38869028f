"""How long reading a plan may take, in processor time: a busy machine makes no plan too long."""

from __future__ import annotations

import math
import time


class Expired(Exception):
    """The time is up."""


class Deadline:
    """Loops over a plan call `check`, which raises Expired when the time is up. It looks at the clock at each 256th call."""

    def __init__(self, seconds: float = math.inf) -> None:
        self.seconds = seconds
        self._until = time.thread_time() + seconds
        self._calls = 0

    def check(self) -> None:
        self._calls += 1
        if not self._calls & 0xFF and time.thread_time() > self._until:
            raise Expired
