"""Heartbeats of processes that serve no requests: each touches `.fleet/private/run/NAME.beat` in every round.

A process is ready with its first beat, and unhealthy if it does not beat for SILENT_S.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from fleet import errors, humanise
from fleet.config.home import Home

SILENT_S = 30


def beat(home: Home, name: str) -> None:
    """Record that the process of this name is alive and making progress."""
    _file(home, name).touch(mode=0o600)


def clear(home: Home, name: str) -> None:
    """Forget the beats of an earlier process of this name."""
    _file(home, name).unlink(missing_ok=True)


def probe(home: Home, name: str) -> Callable[[], Awaitable[None]]:
    """Return a probe (see fleet/services/providers/probes.py) that checks the age of the last beat."""

    async def check() -> None:
        try:
            age = time.time() - _file(home, name).stat().st_mtime
        except FileNotFoundError:
            raise errors.Unavailable("The process has not started its loop yet.") from None
        if age > SILENT_S:
            raise errors.Unavailable(f"The process has shown no sign of life for {humanise.duration(age)}.")

    return check


def _file(home: Home, name: str) -> Path:
    return home.run / f"{name}.beat"
