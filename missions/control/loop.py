"""The control loop: it runs the duties of missions/control/duties.py, beat by beat, and survives what fails in one."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from django.conf import settings
from django.db import Error, connection

from fleet import lease
from fleet.audit import anchor, sealing
from fleet.postgres import clock
from fleet.services import events
from missions.control import admission, alerts, duties, scaling
from missions.engine.settling import Consequences
from missions.hints import Hinter
from missions.operations import moves

log = logging.getLogger("fleet.control")

RECOUNT_S = 10.0  # for the duties that are nets under others
SCALE_S = 2.0
T = TypeVar("T")


class Control:
    """One control loop. Several may run at once; each duty takes its rows so that nothing is done twice."""

    def __init__(self, *, hinter: Hinter) -> None:
        self.hinter = hinter
        self._recounted = self._scaled = time.monotonic()
        self._alerts = alerts.Watch()
        self._limits = admission.Limits()
        self._anchor = anchor.Anchor()
        self._away = False  # whether Postgres did not answer, in this beat
        # Until agents had the time to renew by a clock that was set, their leases and heartbeats only seem to be over.
        self._pace = clock.Pace(over_s=settings.FLEET_LEASE_S, tolerance_s=lease.margin_s(settings.FLEET_LEASE_S) / 4)
        self._steady = False

    def beat(self) -> None:
        """Every duty once; while Postgres does not answer, none beyond the first that finds that out."""
        self._away = False
        self._steady = bool(self._do(self._pace.look))
        if self._steady:
            self._do(duties.expire)
        freed = self._do(self._rescue)
        if freed is not None:
            self.hinter.ring(freed.freed, freed.named)
        self._do(duties.sweep)
        self._do(duties.wake)
        self._do(self._limits.hold)
        self._do(admission.admit)
        if time.monotonic() - self._recounted > RECOUNT_S:
            self._recounted = time.monotonic()
            self._do(admission.regate)
            self._do(duties.recount)
            self._do(duties.revive)
        self._do(moves.complete)
        if time.monotonic() - self._scaled > SCALE_S:
            self._scaled = time.monotonic()
            self._do(scaling.scale)
        self._do(events.record)
        self._do(sealing.seal)
        self._do(self._anchor.keep)
        self._do(self._alerts.look_when_due)
        if (queued := self._do(duties.hint)) is not None:
            self.hinter.ring(*queued)

    def run(self, *, ending: threading.Event, alive: Callable[[], None]) -> None:
        """Beat until asked to end; `alive` is told after each beat."""
        while not ending.wait(settings.FLEET_CONTROL_S):
            self.beat()
            alive()

    def _rescue(self) -> Consequences:
        reach_s = 2 * settings.FLEET_LEASE_S if self._pace.stepped else None
        return duties.rescue(leases=self._steady, reach_s=reach_s)

    def _do(self, duty: Callable[[], T]) -> T | None:
        if self._away:  # each duty would wait for it as long as the first one
            return None
        try:
            return duty()
        except Error as fault:
            # Postgres is away, or two loops met: the rows are still there at the next beat.
            log.warning("%s: %s", duty.__name__, str(fault).strip())
            self._away = connection.connection is None or connection.connection.closed
            connection.close()
            return None
