"""Callables that write the attempt's marker and the time into a file while they run (see overlaps.py).

A test registers them with FLEET_CALLABLES.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from agents.callables import Context, register


@register
def write(context: Context, *, path: str) -> None:
    """Write until killed, or for one second from the second attempt on. Ignores SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    marker = os.environ["FLEET_ATTEMPT"]
    until = None if marker.endswith("/1") else time.monotonic() + 1
    while until is None or time.monotonic() < until:
        with Path(path).open("a") as file:
            file.write(f"{marker} {Path('/proc/uptime').read_text().split()[0]}\n")
        time.sleep(0.02)


@register
def note(context: Context, *, path: str, tenths: int) -> None:
    """Write every tenth of a second, for `tenths` of a second."""
    for number in range(tenths + 1):
        with Path(path).open("a") as file:
            file.write(f"{os.environ['FLEET_ATTEMPT']} {Path('/proc/uptime').read_text().split()[0]}\n")
        if number < tenths:
            time.sleep(0.1)
