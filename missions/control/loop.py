"""The control loop: runs every duty once per beat, and survives a duty that fails."""

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
from missions.control import admission, alerts, background, duties, scaling, scheduling
from missions.engine.settlement.settling import Consequences
from missions.hints import HintPublisher
from missions.operations import transitions

log = logging.getLogger("fleet.control")

RECOUNT_S = 10.0  # between two runs of the duties that are only safety nets
SCALE_S = 2.0
T = TypeVar("T")


class ControlLoop:
    """One control loop. Several may run at once: each duty locks its rows, so nothing is done twice."""

    def __init__(self, *, hint_publisher: HintPublisher) -> None:
        self.hint_publisher = hint_publisher
        self._recounted = self._scaled = time.monotonic()
        self._alerts = alerts.AlertMonitor()
        self._limits = admission.LimitWatch()
        self._anchor = anchor.Anchor()
        self._unreachable = False  # whether Postgres has failed to answer in this beat
        self._in_outage = False  # whether it failed to answer in the last one
        # After the database's clock was set, leases and heartbeats may look expired until agents have renewed them.
        self._clock = clock.StepDetector(
            window_s=settings.FLEET_LEASE_S, tolerance_s=lease.margin_s(settings.FLEET_LEASE_S) / 4
        )
        self._clock_is_steady = False

    def beat(self) -> None:
        """Run every duty once. If Postgres does not answer one of them, the rest of the beat is skipped."""
        self._unreachable = False
        self._clock_is_steady = bool(self._do(self._clock.is_steady))
        if self._clock_is_steady:
            self._do(duties.expire)
        if self._do(duties.has_live_missions):
            self._advance_missions()
        if time.monotonic() - self._scaled > SCALE_S:
            self._scaled = time.monotonic()
            self._do(scaling.scale)
        self._do(events.record)
        self._do(sealing.seal)
        self._do(self._anchor.append_head)
        self._do(self._alerts.check_when_due)
        if self._in_outage and not self._unreachable:
            log.warning("Postgres answers again")
        self._in_outage = self._unreachable

    def _advance_missions(self) -> None:
        """The duties that concern live missions. An idle fleet has none, and should cost next to nothing."""
        consequences = self._do(self._rescue)
        if consequences is not None:
            self.hint_publisher.send(consequences.queued, consequences.queued_sorties)
        self._do(duties.sweep)
        self._do(duties.wake)
        if (granted := self._do(duties.grant_lanes)) is not None:
            self.hint_publisher.send(granted.queued, granted.queued_sorties)
        self._do(self._limits.update_gated_if_changed)
        self._do(admission.admit)
        if time.monotonic() - self._recounted > RECOUNT_S:
            self._recounted = time.monotonic()
            self._do(admission.update_gated)
            self._do(duties.recount)
            self._do(duties.revive)
        self._do(transitions.complete)
        if (queued := self._do(duties.unclaimed)) is not None:
            self.hint_publisher.send(*queued)

    def run(self, *, ending: threading.Event, on_beat: Callable[[], None]) -> None:
        """Beat until `ending` is set. Calls `on_beat` after each beat."""
        threads = (background.start(ending), scheduling.start(ending))
        while not ending.wait(settings.FLEET_CONTROL_S):
            self.beat()
            on_beat()
        for thread in threads:
            thread.join()

    def _rescue(self) -> Consequences:
        longest_lease_s = 2 * settings.FLEET_LEASE_S if self._clock.stepped else None
        return duties.rescue(leases=self._clock_is_steady, longest_lease_s=longest_lease_s)

    def _do(self, duty: Callable[[], T]) -> T | None:
        if self._unreachable:  # each further duty would wait as long as the first one
            return None
        try:
            return duty()
        except Error as error:
            # Postgres is unreachable, or two loops conflicted. The rows are still there at the next beat.
            self._unreachable = connection.connection is None or connection.connection.closed
            if not self._unreachable:
                log.warning("%s failed and will be repeated: %s", duty.__name__, str(error).strip())
            elif not self._in_outage:
                log.warning("Postgres does not answer; retrying until it does: %s", str(error).strip())
            connection.close()
            return None
