"""Kills processes that attempts left behind when their shim was killed too.

It finds them by the environment that they inherited. A process that cleared its environment is found through one that
did not: it is a descendant, or in the same PID namespace (each sandboxed attempt has its own).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass

from agents.confinement import cgroups
from agents.drivers.shim import PROGRAM
from agents.shim import tree

MARKERS = ("FLEET_ATTEMPT", "FLEET_HOME_ID")  # variables that mark the processes of an attempt
KILL_S = 3.0
POLL_S = 0.02
MAX_BYTES = 1024 * 1024  # read of a process's arguments and environment, which may claim to be terabytes (PR_SET_MM)
MAX_DIGITS = 9  # of an attempt's number, which a process may forge


@dataclass(frozen=True, slots=True)
class MarkedProcess:
    """A process that carries the marker of an attempt. `shim`: whether it is the attempt's shim."""

    pid: int
    marker: str
    fleet: str
    shim: bool


def marked_processes() -> list[MarkedProcess]:
    """All processes on this host that carry a marker and that this user may inspect."""
    marked = []
    for pid in tree.process_parents():
        with suppress(OSError):  # it has ended since, or is another user's
            text = _read_start(f"/proc/{pid}/environ").decode("utf-8", "replace")
            variables = dict(
                line.split("=", 1) for line in text.split("\x00") if line.startswith("FLEET_") and "=" in line
            )
            if marker := variables.get("FLEET_ATTEMPT"):
                marked.append(MarkedProcess(pid, marker, variables.get("FLEET_HOME_ID", ""), is_shim(pid)))
    return marked


def is_shim(pid: int) -> bool:
    """Whether a process is a shim, or bubblewrap starting one, by its command line."""
    try:
        words = _read_start(f"/proc/{pid}/cmdline").split(b"\x00")
    except OSError:
        return False
    return os.fsencode(PROGRAM) in (words[3:4] + words[7:8])  # in the sandbox, bubblewrap's arguments come first


def reap_earlier(marker: str) -> set[int]:
    """Kill all processes of earlier attempts of the same sortie and wait until they are gone.

    Shims and halted processes are killed too. Returns the pids of processes that survive.
    """
    sortie, _, number = marker.partition("/")

    def earlier() -> set[int]:
        markers = [(process.pid, process.marker.partition("/")) for process in marked_processes()]
        return {pid for pid, (other, _, n) in markers if other == sortie and _is_number(n) and int(n) < int(number)}

    _kill(earlier)
    return earlier()


def reap_abandoned(*, fleet: str, agent_pids: Collection[int], grace_s: float) -> bool:
    """End the fleet's attempts that are not below any of these agents' processes. Returns whether all are gone.

    Running shims get the grace period and a little more to end their attempts themselves.
    """
    deadline = time.monotonic() + grace_s + tree.SETTLE_S

    def abandoned() -> set[int]:
        supervised = tree.descendants(agent_pids, tree.process_parents())
        ours = (process.pid for process in marked_processes() if process.fleet == fleet)
        return set(ours) - supervised

    while abandoned():
        reap_orphans(fleet=fleet)
        if time.monotonic() > deadline:
            _kill(abandoned)
            break
        time.sleep(POLL_S)
    cgroups.sweep(fleet=fleet, kill=True)
    return not abandoned()


def reap(marker: str) -> int:
    """Kill all processes of the attempt, its shim included, and wait until they are gone. Returns how many."""
    return _kill(lambda: {process.pid for process in marked_processes() if process.marker == marker})


def reap_orphans(*, fleet: str) -> int:
    """Kill the processes of the fleet's attempts that no longer have a shim. Returns how many there were.

    Workers call this when they start. An attempt with a running shim needs no help: the shim ends it when its worker
    dies.
    """

    def orphans() -> set[int]:
        ours = [process for process in marked_processes() if process.fleet == fleet]
        # Not by their environment alone: without the sandbox, an ordinary user cannot read that of a shim.
        parents = tree.process_parents()
        supervised = tree.descendants(filter(is_shim, parents), parents)
        spared = {process.marker for process in ours if process.shim or process.pid in supervised}
        return {process.pid for process in ours if process.marker not in spared}

    killed = _kill(orphans)
    cgroups.sweep(fleet=fleet)
    return killed


def _read_start(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(MAX_BYTES)


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) <= MAX_DIGITS


def _kill(find: Callable[[], set[int]]) -> int:
    killed: set[int] = set()
    deadline = time.monotonic() + KILL_S
    while pids := find() - {os.getpid()}:
        pids |= _related(pids) - {os.getpid()}
        tree.send_signal(pids, signal.SIGKILL)
        killed |= pids
        if time.monotonic() > deadline:
            break
        time.sleep(POLL_S)
    return len(killed)


def _related(pids: set[int]) -> set[int]:
    """Their descendants, and all processes in the PID namespaces of their attempts."""
    parents = tree.process_parents()
    namespaces = {_pid_namespace(pid) for pid in pids} - {_pid_namespace(os.getpid()), None}
    return tree.descendants(pids, parents) | {
        pid for pid in parents if namespaces and _pid_namespace(pid) in namespaces
    }


def _pid_namespace(pid: int) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return None
