"""What a node's agents leave running when they die: it becomes the node's, which sees it end, or ends it.

A shim that lives ends its attempt by itself when its agent has died, and is given the time for that. Whatever else comes
to the node has nobody left who watches over it. Linux hands a process whose parent has died to the nearest ancestor that
is a subreaper (prctl(2), PR_SET_CHILD_SUBREAPER): to its shim while that lives, then to the node.
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
from fleet import processes

AGAIN_S = 1.0  # until what was killed and is still there is killed once more


class Orphans:
    """Of this process, which must have one thread only and no children but the agents that `look` is told of."""

    def __init__(self) -> None:
        processes.become_subreaper()
        self._kill_at: dict[int, float] = {}

    @property
    def patience_s(self) -> float:
        """After so long none is left, unless the kernel or another user keeps it."""
        return settings.FLEET_GRACE_S + 2 * tree.SETTLE_S

    def look(self, *, agents: Collection[int]) -> bool:
        """Reap those that have ended, end those over which nobody watches; whether any is left."""
        orphans = _children() - set(agents)
        for pid in list(orphans):
            with suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG)[0]:
                    orphans.discard(pid)
        now = time.monotonic()
        self._kill_at = {pid: self._kill_at.get(pid) or now + _given_s(pid) for pid in orphans}
        if due := {pid for pid, at in self._kill_at.items() if at <= now}:
            parents = tree.alive()
            for number in (signal.SIGSTOP, signal.SIGKILL):
                tree.tell(due | tree.below(due, parents), number)
            self._kill_at |= dict.fromkeys(due, now + AGAIN_S)
        return bool(orphans)

    def await_end(self, *, agents: Collection[int]) -> bool:
        """Look until none is left, within `patience_s`; whether none is."""
        until = time.monotonic() + self.patience_s
        while left := self.look(agents=agents):
            if time.monotonic() > until:
                break
            time.sleep(tree.BEAT_S)
        return not left


def _given_s(pid: int) -> float:
    """How long it has to end by itself."""
    return settings.FLEET_GRACE_S + tree.SETTLE_S if reaper.is_shim(pid) else 0.0


def _children() -> set[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
            return set(map(int, file.read().split()))
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return {pid for pid, parent in tree.alive().items() if parent == os.getpid()}
