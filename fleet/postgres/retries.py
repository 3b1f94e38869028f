"""Retries queries that failed temporarily: Postgres was away, or the transaction lost a deadlock or serialization race.

`TRANSIENT` classifies the errors, both psycopg's and Django's; deadlocks and serialization failures are among its
OperationalErrors (https://www.psycopg.org/psycopg3/docs/api/errors.html).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import psycopg
from django import db

TRANSIENT = (psycopg.OperationalError, psycopg.InterfaceError, db.OperationalError, db.InterfaceError)
FIRST_PAUSE_S, MAX_PAUSE_S = 0.1, 1.0  # the pause doubles from one failure to the next

T = TypeVar("T")

OnFailure = Callable[[Exception, int], None]  # gets each error and the number of failures so far
Stop = Callable[[], bool]


def never() -> bool:
    return False


def retry(query: Callable[[], T], *, on_failure: OnFailure, stop: Stop = never, timeout_s: float | None = None) -> T:
    """Call `query`, repeat it while it fails with a transient error, and return its result.

    `on_failure` may reset the connection. The error is raised if `stop` then returns True, or if the first failure was
    more than `timeout_s` seconds ago.
    """
    failures = _Failures(on_failure=on_failure, stop=stop, timeout_s=timeout_s)
    while True:
        try:
            return query()
        except TRANSIENT as error:
            if failures.add(error):
                raise
        time.sleep(failures.pause_s)


async def retry_async(query: Callable[[], Awaitable[T]], *, on_failure: OnFailure, stop: Stop = never) -> T:
    """Like `retry`, in an event loop. Every error of the database counts as transient.

    A stream must survive any of them: during a migration, for example, a statement may fail for another reason.
    """
    failures = _Failures(on_failure=on_failure, stop=stop)
    while True:
        try:
            return await query()
        except (*TRANSIENT, db.Error) as error:
            if failures.add(error):
                raise
        await asyncio.sleep(failures.pause_s)


@dataclass(slots=True)
class _Failures:
    """The failures of one query, and the pause before it is repeated."""

    on_failure: OnFailure
    stop: Stop
    timeout_s: float | None = None
    count: int = 0
    pause_s: float = FIRST_PAUSE_S / 2
    first_at: float = 0.0

    def add(self, error: Exception) -> bool:
        """Count a failure. Returns whether to give up."""
        self.count += 1
        if self.count == 1:
            self.first_at = time.monotonic()
        self.pause_s = min(2 * self.pause_s, MAX_PAUSE_S)
        self.on_failure(error, self.count)
        return self.stop() or (self.timeout_s is not None and time.monotonic() - self.first_at > self.timeout_s)
