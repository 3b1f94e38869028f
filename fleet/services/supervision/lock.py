"""One supervisor a home: an exclusive lock on a file, which the kernel gives back however its holder ends."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from fleet import errors, invocation
from fleet.config.home import Home


class Held(errors.Conflict):
    """Another supervisor runs here already."""


@contextmanager
def hold(home: Home) -> Iterator[None]:
    """Be the one supervisor of this home; Held where there is one."""
    home.make()
    handle = os.open(home.run / "supervisor.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not (_take(handle) or _after_a_moment(handle)):
            raise Held(
                f"A supervisor of {home.root} is already running.",
                hint=f"Show it: {invocation.command('fleet_services', 'status')}. "
                f"Stop it: {invocation.command('fleet_down')}",
            )
        yield
    finally:
        os.close(handle)


def is_held(home: Home) -> bool:
    """Whether a supervisor of this home runs now."""
    if not (home.run / "supervisor.lock").exists():
        return False
    handle = os.open(home.run / "supervisor.lock", os.O_RDWR)
    try:
        return not _take(handle, fcntl.LOCK_SH)  # shared: two that look at once do not see each other
    finally:
        os.close(handle)


def wait_until_free(home: Home, *, seconds: float) -> bool:
    """Whether the supervisor was gone before the time was over."""
    deadline = time.monotonic() + seconds
    while is_held(home):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _take(handle: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _after_a_moment(handle: int) -> bool:
    time.sleep(0.1)  # it may be only `is_held`, which takes the lock for an instant
    return _take(handle)
