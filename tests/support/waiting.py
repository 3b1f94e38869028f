"""Waits for a condition that other threads or processes bring about."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

POLL_S = 0.02


def until(condition: Callable[[], Any], *, within_s: float = 120, otherwise: Callable[[], str] | None = None) -> Any:
    """Wait until `condition` returns a true value, and return it. Fails the test after `within_s` seconds.

    `otherwise`: returns what the failure says in addition.
    """
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {within_s} s" + (f": {otherwise()}" if otherwise else ""))
        time.sleep(POLL_S)
    return value
