"""Heartbeats of processes that serve no requests: each touches `.fleet/private/run/NAME.beat` in every round.

A process is ready with its first beat, and unhealthy if it does not beat for SILENT_S. As a service of systemd
(Type=notify) it also notifies systemd: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from fleet import errors, humanise
from fleet.config.home import Home

SILENT_S = 30


def beat(home: Home, name: str) -> None:
    """Record that the process of this name is alive and making progress."""
    _file(home, name).touch(mode=0o600)
    if address := os.environ.get("NOTIFY_SOCKET"):
        _notify(address)


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
            raise errors.Unavailable(f"The process has sent no heartbeat for {humanise.duration(age)}.")

    return check


def _notify(address: str) -> None:
    """Tell systemd that this process is ready, and reset its watchdog. An abstract address begins with @."""
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifications:
        notifications.setblocking(False)
        notifications.sendto(b"READY=1\nWATCHDOG=1", address.replace("@", "\0", 1) if address[0] == "@" else address)


def _file(home: Home, name: str) -> Path:
    return home.run / f"{name}.beat"
