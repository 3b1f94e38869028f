"""One supervisor per home: an exclusive file lock, which the kernel releases however its holder ends."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fleet import errors
from fleet.config.home import Home
from fleet.console import invocation


class AlreadyRunning(errors.Conflict):
    """Another supervisor is already running here."""


@contextmanager
def hold(home: Home) -> Iterator[None]:
    """Hold the supervisor's lock of this home within the context; raises AlreadyRunning if another process holds it."""
    home.create_folders()
    handle = os.open(home.run / "supervisor.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not (_acquire(handle) or _acquire_after_pause(handle)):
            raise AlreadyRunning(
                f"A supervisor for {home.root} is already running.",
                hint=f"Show it: {invocation.command('fleet_services', 'status')}. "
                f"Stop it: {invocation.command('fleet_down')}",
            )
        yield
    finally:
        os.close(handle)


@contextmanager
def hold_start(home: Home, say: Callable[[str], None]) -> Iterator[None]:
    """Let only one command at a time start a supervisor in the background; another one waits until it has."""
    handle = os.open(home.run / "start.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not _acquire(handle):
            say("A start is already in progress. Waiting until it is done.")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def is_held(home: Home) -> bool:
    """Whether a supervisor of this home is running."""
    try:
        handle = os.open(home.run / "supervisor.lock", os.O_RDONLY)  # the disk may be read-only
    except FileNotFoundError:
        return False
    try:
        return not _acquire(handle, fcntl.LOCK_SH)  # shared, so that concurrent checks do not see each other
    finally:
        os.close(handle)


def wait_until_free(home: Home, *, seconds: float) -> bool:
    """Wait until no supervisor holds the lock; returns False if one still does after `seconds`."""
    deadline = time.monotonic() + seconds
    while is_held(home):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _acquire(handle: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _acquire_after_pause(handle: int) -> bool:
    time.sleep(0.1)  # `is_held` of another process holds the lock for an instant
    return _acquire(handle)
