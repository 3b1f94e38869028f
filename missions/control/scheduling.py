"""Launches the missions of schedules, in a thread of the control process.

Reading a plan or resolving a repository may take seconds, and no other duty should wait for that.

Any number of control loops may do this at once. A loop leases one schedule at a time, so that other loops skip it; if
it dies, another loop takes over when the lease has ended. That each tick is decided only once does not depend on the
lease: see `missions/operations/schedules/running.py`.
"""

from __future__ import annotations

import logging
import threading
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import Error, connection

from fleet.postgres import statements
from missions.models import Tick
from missions.operations import plan_reading, schedules

log = logging.getLogger("fleet.schedules")

CHECK_S = 1.0


class _LeasedSchedule(NamedTuple):
    """A schedule that no other control loop takes until its lease ends, and the database's time."""

    id: UUID
    now: datetime


class Step(NamedTuple):
    """The tick that was decided, if any, and whether there may be more to do at once."""

    tick: Tick | None
    more: bool


def start(ending: threading.Event) -> threading.Thread:
    """Launch what is due until `ending` is set. The caller joins the returned thread."""
    thread = threading.Thread(target=_loop, args=(ending,), name="schedules")
    thread.start()
    return thread


def step() -> Step:
    """Decide one due tick; if there is none, one waiting tick that may now be launched."""
    if (leased := _lease("lease_due_schedule")) is not None:
        # If the tick stays undecided, the lease keeps its schedule from being leased again before the others.
        tick = schedules.decide_next(schedule=leased.id, now=leased.now)
        return Step(tick, more=True)
    if (leased := _lease("lease_waiting_schedule")) is not None:
        tick = schedules.launch_waiting(schedule=leased.id, now=leased.now)
        return Step(tick, more=tick is not None)
    return Step(None, more=False)


def _lease(statement: str) -> _LeasedSchedule | None:
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions.control", statement), {"lease": settings.FLEET_LEASE_S})
        row = cursor.fetchone()
        return _LeasedSchedule(*row) if row is not None else None


def _loop(ending: threading.Event) -> None:
    while not ending.wait(CHECK_S):
        try:
            while not ending.is_set() and step().more:
                pass
        except Error as error:  # Postgres is unreachable, or two loops conflicted: the rows are still there
            log.warning("schedules: %s", str(error).strip())
            connection.close()
        except Exception:  # a bug must not end the thread: the next tick may still be decided
            log.exception("schedules failed")
            connection.close()
    plan_reading.reader.stop()
    connection.close()
