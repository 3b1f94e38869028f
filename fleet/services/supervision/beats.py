"""A sign of life from a process that serves nobody: it touches `.fleet/private/run/NAME.beat` as it goes round.

A process is ready with its first beat, and must go on.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from fleet import errors, humanise
from fleet.config.home import Home

SILENT_S = 30


def beat(home: Home, name: str) -> None:
    """Say that the process of this name is alive and getting on."""
    (home.run / f"{name}.beat").touch(mode=0o600)


def forget(home: Home, name: str) -> None:
    """Begin anew: the next process of this name has not beaten yet."""
    (home.run / f"{name}.beat").unlink(missing_ok=True)


def probe(home: Home, name: str) -> Callable[[], Awaitable[None]]:
    async def listen() -> None:
        try:
            age = time.time() - (home.run / f"{name}.beat").stat().st_mtime
        except FileNotFoundError:
            raise errors.Unavailable("The process has not begun yet.") from None
        if age > SILENT_S:
            raise errors.Unavailable(f"The process has given no sign of life for {humanise.duration(age)}.")

    return listen
