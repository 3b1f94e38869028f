"""Automatic captures: by time, by progress, and before or at certain events.

The plan of a mission (`checkpoints:`) overrides the settings. A failed capture is recorded as an event and logged. It
stops neither the mission nor the cancel or cleanup that it precedes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.db.models import QuerySet
from django.utils import timezone

from checkpoints.models import Checkpoint
from checkpoints.operations import artifacts, capture, prune
from checkpoints.queries import lookup
from fleet import errors
from fleet.events.models import Event
from fleet.postgres import statements
from missions.artifacts import holders
from missions.control import background
from missions.models import Mission
from missions.operations import hooks
from missions.queries import mission_json
from missions.states import FINAL_MISSION_STATES, FINAL_SORTIE_STATES, MissionState, SortieState
from missions.workspaces import moving

log = logging.getLogger("fleet.checkpoints")

CHECK_S = 2.0
PRUNE_S = 3_600.0
SHUTDOWN_S = 2.0
CANCEL_S = 5.0  # to read uncommitted work: a request of the site waits for it
Trigger = Checkpoint.Trigger
# Missions that are captured at an interval and at a shutdown: the live ones, except those that are being cancelled.
CAPTURED_STATES = (MissionState.RUNNING, MissionState.PAUSED, MissionState.PLANNED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When a mission is captured. Intervals of 0 mean never."""

    every_s: float
    sorties: int
    at: tuple[int, ...]
    on: frozenset[str]

    @classmethod
    def of(cls, plan: Mapping[str, Any]) -> Policy:
        """The policy of a mission: its plan's values, and the settings for the rest."""
        values: dict[str, Any] = {
            "every_s": settings.FLEET_CHECKPOINT_EVERY_S,
            "sorties": settings.FLEET_CHECKPOINT_SORTIES,
            "at": settings.FLEET_CHECKPOINT_AT,
            "on": settings.FLEET_CHECKPOINT_ON,
            **plan,
        }
        return cls(
            every_s=float(values["every_s"]),
            sorties=int(values["sorties"]),
            at=tuple(values["at"]),
            on=frozenset(values["on"]),
        )

    def due(self, *, total: int, ended: int, failed: int, last: LastCapture) -> Trigger | None:
        """The trigger that applies to a mission with these counts now, if any."""
        if "failure" in self.on and failed > last.failed:
            return Trigger.FAILURE
        if self.sorties and ended // self.sorties > last.ended // self.sorties:
            return Trigger.PROGRESS
        if total and any(last.ended * 100 < percent * total <= ended * 100 for percent in self.at) and ended < total:
            return Trigger.PROGRESS
        if self.every_s and not 0 <= last.age_s < self.every_s:  # below 0: the clock was set back since
            return Trigger.INTERVAL
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class LastCapture:
    """The last capture of a mission, or its launch."""

    ended: int
    failed: int
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRecord:
    """The last capture of a mission according to the database, and whether it is still up to date."""

    captured_at: datetime | None  # None if it was never captured
    ended: int  # sorties that had ended by then
    failed: int
    has_changed: bool  # whether anything has happened to the mission since its last capture

    def last_capture(self, launched_at: datetime) -> LastCapture:
        since = self.captured_at or launched_at
        return LastCapture(ended=self.ended, failed=self.failed, age_s=(timezone.now() - since).total_seconds())


class EndedMissions:
    """Captures each mission once more after it has ended, if an earlier checkpoint shows it live.

    Otherwise a fleet that has only the checkpoints would bring it back and run it again.
    """

    def __init__(self) -> None:
        self._live: frozenset[UUID] | None = None
        self._uncaptured: set[UUID] = set()  # have ended, but could not be captured yet

    def capture(self) -> list[Checkpoint]:
        """Capture the missions that have ended since the last call; at the first call, all that have checkpoints."""
        captured = []
        for mission in self._due():
            checkpoints = _capture([mission], Trigger.END)
            captured += checkpoints
            if checkpoints:
                self._uncaptured.discard(mission)
        return captured

    def _due(self) -> list[UUID]:
        live = frozenset(Mission.objects.exclude(state__in=FINAL_MISSION_STATES).values_list("id", flat=True))
        ended = lookup.captured_missions() - live if self._live is None else self._live - live
        self._live = live
        candidates = Mission.objects.filter(id__in=ended | self._uncaptured, state__in=FINAL_MISSION_STATES)
        due = _changed(candidates, moment="end", captured_before=True)
        self._uncaptured = set(due)
        return due


def register() -> None:
    """Register the automatic captures and the retention, and report the artifacts that checkpoints use."""
    background.register(name="checkpoints", run=capture_due, every_s=CHECK_S, at_end=capture_at_shutdown)
    background.register(name="checkpoints of ended missions", run=EndedMissions().capture, every_s=CHECK_S)
    background.register(name="branches of restored missions", run=moving.complete_all, every_s=CHECK_S)
    background.register(name="retention of checkpoints", run=prune_now, every_s=PRUNE_S)
    hooks.before_cancel.register(lambda missions: _capture_before(missions, "cancel", Trigger.CANCEL, work_s=CANCEL_S))
    hooks.before_cleanup.register(lambda missions: _capture_before(missions, "cleanup", Trigger.CLEANUP))
    holders.register(artifacts.in_use)


def capture_due() -> list[Checkpoint]:
    """Capture every live mission whose policy asks for it now."""
    rows = list(Mission.objects.filter(state__in=CAPTURED_STATES).only("id", "checkpoints", "created_at"))
    missions = [row.id for row in rows]
    counts, records = mission_json.counts(missions), _capture_records(missions)
    captured = []
    for row in rows:
        by_state = counts.get(row.id, {})
        trigger = Policy.of(row.checkpoints).due(
            total=sum(by_state.values()),
            ended=sum(by_state.get(state, 0) for state in FINAL_SORTIE_STATES),
            failed=by_state.get(SortieState.FAILED, 0),
            last=records[row.id].last_capture(row.created_at),
        )
        if trigger and (trigger is not Trigger.INTERVAL or records[row.id].has_changed):
            captured += _capture([row.id], trigger)
    return captured


def capture_at_shutdown() -> None:
    """Capture live missions that have changed; after SHUTDOWN_S start no capture and read no uncommitted work."""
    deadline = time.monotonic() + SHUTDOWN_S
    for mission in _changed(Mission.objects.filter(state__in=CAPTURED_STATES), moment="shutdown"):
        if time.monotonic() > deadline:
            return
        _capture([mission], Trigger.SHUTDOWN, work_s=deadline - time.monotonic())


def prune_now() -> None:
    prune(now=timezone.now(), dry_run=False)


def _capture_records(missions: Collection[UUID]) -> dict[UUID, CaptureRecord]:
    with connection.cursor() as cursor:
        cursor.execute(statements.read("checkpoints", "last_captures"), {"missions": list(missions)})
        return {
            mission: CaptureRecord(
                captured_at=captured_at,
                ended=ended,
                failed=failed,
                has_changed=captured_at is None or last_event not in (None, "checkpoint.created"),
            )
            for mission, captured_at, ended, failed, last_event in cursor.fetchall()
        }


def _changed(missions: QuerySet[Mission], *, moment: str, captured_before: bool = False) -> list[UUID]:
    """Those of these missions whose policy names this moment, and to which anything has happened since their last
    capture. `captured_before`: only those that have a checkpoint.
    """
    rows = list(missions.only("id", "checkpoints").order_by("id"))
    records = _capture_records([row.id for row in rows])
    return [
        row.id
        for row in rows
        if records[row.id].has_changed
        and (records[row.id].captured_at or not captured_before)
        and moment in Policy.of(row.checkpoints).on
    ]


def _capture_before(missions: Sequence[UUID], moment: str, trigger: Trigger, *, work_s: float | None = None) -> None:
    rows = Mission.objects.filter(id__in=missions).exclude(state=MissionState.CANCELLING)
    if changed := _changed(rows, moment=moment):
        limit_s = None if work_s is None else min(work_s, settings.FLEET_CHECKPOINT_WORK_S)
        _capture(changed, trigger, work_s=limit_s)


def _capture(missions: Sequence[UUID], trigger: Trigger, *, work_s: float | None = None) -> list[Checkpoint]:
    """Capture missions. A failure is also recorded as an event of each mission."""
    try:
        return [capture(missions=missions, trigger=trigger, work_s=work_s)]
    except errors.NotFound:  # a mission was removed in the meantime
        return []
    except errors.FleetError as error:
        _record_failure(missions, trigger, str(error))
        log.warning("a mission could not be captured (%s): %s", trigger, error)
        return []


def _record_failure(missions: Sequence[UUID], trigger: Trigger, error: str) -> None:
    """Add an event to each mission, unless its last event says the same: a full disk would add one at each check."""
    for mission in missions:
        last = Event.objects.filter(scope=mission).order_by("-xid", "-id").first()
        if last is None or last.kind != "checkpoint.failed":
            Event.objects.create(kind="checkpoint.failed", scope=mission, data={"trigger": trigger, "error": error})
