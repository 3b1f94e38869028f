"""Retries of what failed only for now: Postgres is away, or the transaction lost a deadlock or a serialization race.

`TRANSIENT` classifies the errors, both psycopg's and Django's; deadlocks and serialization failures are among its
OperationalErrors (https://www.psycopg.org/psycopg3/docs/api/errors.html).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import psycopg
from django import db

TRANSIENT = (psycopg.OperationalError, psycopg.InterfaceError, db.OperationalError, db.InterfaceError)
FIRST_PAUSE_S, MAX_PAUSE_S = 0.1, 1.0  # the pause doubles from one failure to the next

T = TypeVar("T")


def retry(
    query: Callable[[], T],
    *,
    on_failure: Callable[[Exception, int], None],
    stop: Callable[[], bool] = lambda: False,
    timeout_s: float | None = None,
) -> T:
    """Return what `query` returns, and repeat it while it fails with a transient error.

    `on_failure` gets each error and the number of failures so far; it may reset the connection. The error is raised if
    `stop` then returns True, or if the first failure was more than `timeout_s` seconds ago.
    """
    failures, pause_s, first_failure = 0, FIRST_PAUSE_S, 0.0
    while True:
        try:
            return query()
        except TRANSIENT as fault:
            failures += 1
            if failures == 1:
                first_failure = time.monotonic()
            on_failure(fault, failures)
            if stop() or (timeout_s is not None and time.monotonic() - first_failure > timeout_s):
                raise
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, MAX_PAUSE_S)
