"""Adopts the processes that a node's dead agents leave running, and ends them.

Linux gives a process whose parent has died to its nearest ancestor that is a subreaper (prctl(2),
PR_SET_CHILD_SUBREAPER): to its shim while that runs, then to the node. A shim ends its attempt on its own when its
agent has died, and gets the time for that. Any other process that the node adopts has no supervisor, and is killed.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection
from contextlib import suppress

from django.conf import settings

from agents.drivers import reaper
from agents.shim import tree
from fleet.host import processes

RETRY_S = 1.0  # before a process that survived SIGKILL is killed again


class Orphans:
    """The orphans of this process. It must have one thread, and no other children than the agents passed to `check`."""

    def __init__(self) -> None:
        processes.become_subreaper()
        self._kill_at: dict[int, float] = {}

    @property
    def timeout_s(self) -> float:
        """After this time no orphan is left, except those that cannot be killed."""
        return settings.FLEET_GRACE_S + 2 * tree.SETTLE_S

    def check(self, *, agent_pids: Collection[int]) -> bool:
        """Reap orphans that have ended, and kill those whose time is up. Returns whether any is left."""
        orphans = _children() - set(agent_pids)
        for pid in list(orphans):
            with suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG)[0]:
                    orphans.discard(pid)
        now = time.monotonic()
        self._kill_at = {pid: self._kill_at.get(pid) or now + _grace_s(pid) for pid in orphans}
        if due := {pid for pid, at in self._kill_at.items() if at <= now}:
            parents = tree.process_parents()
            for number in (signal.SIGSTOP, signal.SIGKILL):
                tree.send_signal(due | tree.descendants(due, parents), number)
            self._kill_at |= dict.fromkeys(due, now + RETRY_S)
        return bool(orphans)

    def await_end(self, *, agent_pids: Collection[int]) -> bool:
        """Wait at most `timeout_s` until no orphan is left. Returns whether none is."""
        deadline = time.monotonic() + self.timeout_s
        while remaining := self.check(agent_pids=agent_pids):
            if time.monotonic() > deadline:
                break
            time.sleep(tree.POLL_S)
        return not remaining


def _grace_s(pid: int) -> float:
    """How much time the process gets to end on its own."""
    return settings.FLEET_GRACE_S + tree.SETTLE_S if reaper.is_shim(pid) else 0.0


def _children() -> set[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
            return set(map(int, file.read().split()))
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return {pid for pid, parent in tree.process_parents().items() if parent == os.getpid()}
