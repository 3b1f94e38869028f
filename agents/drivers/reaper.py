"""Finds what attempts left behind by what stands in its environment, and kills it.

The shim leaves nothing; this is for the case that the shim itself was killed, and for what an earlier worker left.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

FOR_S = 3.0


def reap(marker: str, *, fleet: str) -> int:
    """Kill every process of one attempt; how many there were."""
    return _kill({f"FLEET_ATTEMPT={marker}", f"FLEET_HOME_ID={fleet}"})


def find(wanted: set[str]) -> list[int]:
    """The processes whose environment holds all of these, this one left out."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
                if wanted <= set(file.read().decode("utf-8", "replace").split("\x00")):
                    found.append(int(name))
    return found


def _kill(wanted: set[str]) -> int:
    killed: set[int] = set()
    until = time.monotonic() + FOR_S
    while (left := find(wanted)) and time.monotonic() < until:
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed.update(left)
        time.sleep(0.02)
    return len(killed)
