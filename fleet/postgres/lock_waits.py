"""Watches what a session waits for, so that an error about a lock can name its holder."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any

import psycopg

from fleet import humanise
from fleet.postgres import statements

POLL_S = 0.2


class Watcher:
    """Remembers, within the block, which session last blocked the one with the process id `pid`."""

    def __init__(self, *, pid: int, parameters: dict[str, Any]) -> None:
        self._pid, self._parameters = pid, parameters
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="lock watcher", daemon=True)
        self._blocker = ""

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def take_blocker(self) -> str:
        """Describe the session that last blocked the watched one, and forget it."""
        blocker, self._blocker = self._blocker, ""
        return blocker or "another session"

    def _watch(self) -> None:
        try:
            with psycopg.connect(**self._parameters, autocommit=True) as session:
                session.execute("SET ROLE NONE")  # the role that logs in sees more of other sessions
                while not self._ended.wait(POLL_S):
                    row = session.execute(statements.read("fleet", "lock_blocker"), {"pid": self._pid}).fetchone()
                    if row is not None:
                        self._blocker = _describe(*row)
        except psycopg.Error:
            return  # the error message will be less specific


def _describe(pid: int, application: str, role: str | None, state: str | None, open_s: float | None) -> str:
    since = "" if open_s is None else f", in a transaction that has been open for {humanise.duration(open_s)}"
    idle = ", now idle" if state == "idle in transaction" else ""
    return f"process {pid} of Postgres ({application or 'unnamed'}, role {role}{since}{idle})"
