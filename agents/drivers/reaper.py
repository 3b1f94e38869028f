"""Ends what attempts left behind when their shim was killed too, found by the environment that they inherited.

A process whose environment was emptied is found by its relations: below one that is found, or in the same user
PID namespace (each sandboxed attempt has one of its own).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass

from agents.drivers.shim import PROGRAM
from agents.shim import tree

NAMES = ("FLEET_ATTEMPT", "FLEET_HOME_ID")  # variables by which an attempt's processes are found
PATIENCE_S = 3.0
BEAT_S = 0.02
LONGEST_BYTES = 1024 * 1024  # read of a process's words and variables: it can say that they are terabytes (PR_SET_MM)
LONGEST_NUMBER = 9  # digits of an attempt's, as a process may say any


@dataclass(frozen=True, slots=True)
class Trace:
    """A process of an attempt. `shim`: it is the attempt's shim."""

    pid: int
    marker: str
    fleet: str
    shim: bool


def traces() -> list[Trace]:
    """All processes on this host that carry a marker and that this user may look into."""
    found = []
    for pid in tree.alive():
        with suppress(OSError):  # it has ended since, or is another user's
            text = _beginning(f"/proc/{pid}/environ").decode("utf-8", "replace")
            variables = dict(
                line.split("=", 1) for line in text.split("\x00") if line.startswith("FLEET_") and "=" in line
            )
            if marker := variables.get("FLEET_ATTEMPT"):
                words = _beginning(f"/proc/{pid}/cmdline").split(b"\x00")
                shim = os.fsencode(PROGRAM) in (words[3:4] + words[7:8])  # in the sandbox behind bubblewrap's words
                found.append(Trace(pid, marker, variables.get("FLEET_HOME_ID", ""), shim))
    return found


def is_shim(pid: int) -> bool:
    """Whether it is a shim, or what started it for a worker (a sandbox, say), by its command line."""
    try:
        return os.fsencode(PROGRAM) in _beginning(f"/proc/{pid}/cmdline").split(b"\x00")
    except OSError:
        return False


def reap_earlier(marker: str) -> set[int]:
    """Kill all processes of earlier attempts of the same sortie, their shims included, also those that are halted, and
    wait until they are gone; those that still are there."""
    sortie, _, number = marker.partition("/")

    def earlier() -> set[int]:
        named = [(trace.pid, trace.marker.partition("/")) for trace in traces()]
        return {pid for pid, (other, _, n) in named if other == sortie and _is_number(n) and int(n) < int(number)}

    _kill(earlier)
    return earlier()


def reap_abandoned(*, fleet: str, agents: Collection[int], grace_s: float) -> bool:
    """End the fleet's attempts that are below none of these agents' processes, and wait until they are gone; whether they
    are. Shims that live have the grace period and a little more to end theirs themselves."""
    until = time.monotonic() + grace_s + tree.SETTLE_S

    def abandoned() -> set[int]:
        kept = tree.below(agents, tree.alive())
        return {trace.pid for trace in traces() if trace.fleet == fleet and trace.pid not in kept}

    while abandoned():
        reap_strangers(fleet=fleet)
        if time.monotonic() > until:
            _kill(abandoned)
            return not abandoned()
        time.sleep(BEAT_S)
    return True


def reap(marker: str) -> int:
    """Kill all processes of the attempt, its shim included, and wait until they are gone; how many there were."""
    return _kill(lambda: {trace.pid for trace in traces() if trace.marker == marker})


def reap_strangers(*, fleet: str, known: Collection[str] = ()) -> int:
    """Kill the fleet's processes of attempts over which nobody watches; how many there were.

    For a worker's start. A living shim watches: it ends its attempt when its own worker dies. What carries a marker
    that is `known` is left alone as well.
    """

    def strangers() -> set[int]:
        found = [trace for trace in traces() if trace.fleet == fleet]
        spared = {trace.marker for trace in found if trace.shim}.union(known)
        return {trace.pid for trace in found if trace.marker not in spared}

    return _kill(strangers)


def _beginning(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(LONGEST_BYTES)


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) <= LONGEST_NUMBER


def _kill(find: Callable[[], set[int]]) -> int:
    killed: set[int] = set()
    until = time.monotonic() + PATIENCE_S
    while found := find() - {os.getpid()}:
        found |= _relations(found) - {os.getpid()}
        tree.tell(found, signal.SIGKILL)
        killed |= found
        if time.monotonic() > until:
            break
        time.sleep(BEAT_S)
    return len(killed)


def _relations(pids: set[int]) -> set[int]:
    parents = tree.alive()
    rooms = {_room(pid) for pid in pids} - {_room(os.getpid()), None}
    return tree.below(pids, parents) | {pid for pid in parents if rooms and _room(pid) in rooms}


def _room(pid: int) -> str | None:
    """The PID namespace of a process."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return None
