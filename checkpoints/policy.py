"""Automatic captures: by time, by progress, and before or at certain events.

The plan of a mission (`checkpoints:`) overrides the settings. A failed capture is recorded as an event and logged. It
stops neither the mission nor the cancel or cleanup that it precedes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from checkpoints.models import Checkpoint
from checkpoints.operations import artifacts, capture, prune
from checkpoints.operations.capturing import newest
from fleet import errors
from fleet.events.models import Event
from missions.artifacts import holders
from missions.control import background
from missions.models import Mission
from missions.operations import hooks
from missions.queries import mission_json
from missions.states import FINAL_SORTIE_STATES, MissionState, SortieState
from missions.workspaces import moving

log = logging.getLogger("fleet.checkpoints")

CHECK_S = 2.0
PRUNE_S = 3_600.0
SHUTDOWN_S = 2.0
Trigger = Checkpoint.Trigger


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


def register() -> None:
    """Register the automatic captures and the retention, and report the artifacts that checkpoints use."""
    background.register(name="checkpoints", run=capture_due, every_s=CHECK_S, at_end=capture_at_shutdown)
    background.register(name="branches of restored missions", run=moving.complete_all, every_s=CHECK_S)
    background.register(name="retention of checkpoints", run=prune_now, every_s=PRUNE_S)
    hooks.before_cancel.register(lambda missions: _capture_before(missions, "cancel", Trigger.CANCEL))
    hooks.before_cleanup.register(lambda missions: _capture_before(missions, "cleanup", Trigger.CLEANUP))
    holders.register(artifacts.in_use)


def capture_due() -> list[Checkpoint]:
    """Capture every running mission whose policy asks for it now."""
    rows = list(Mission.objects.filter(state=MissionState.RUNNING).only("id", "checkpoints", "created_at"))
    counts = mission_json.counts([row.id for row in rows])
    captured = []
    for row in rows:
        by_state = counts.get(row.id, {})
        trigger = Policy.of(row.checkpoints).due(
            total=sum(by_state.values()),
            ended=sum(by_state.get(state, 0) for state in FINAL_SORTIE_STATES),
            failed=by_state.get(SortieState.FAILED, 0),
            last=_last_capture(row),
        )
        if trigger and (trigger is not Trigger.INTERVAL or _has_changed(row.id)):
            captured += _capture([row.id], trigger)
    return captured


def capture_at_shutdown() -> None:
    """Capture running missions that have changed; after SHUTDOWN_S start no capture and read no uncommitted work."""
    deadline = time.monotonic() + SHUTDOWN_S
    for row in Mission.objects.filter(state=MissionState.RUNNING).only("id", "checkpoints"):
        if time.monotonic() > deadline:
            return
        if "shutdown" in Policy.of(row.checkpoints).on and _has_changed(row.id):
            _capture([row.id], Trigger.SHUTDOWN, work_s=deadline - time.monotonic())


def prune_now() -> None:
    prune(now=timezone.now(), dry_run=False)


def _last_capture(row: Mission) -> LastCapture:
    checkpoint = Checkpoint.objects.filter(missions=[row.id]).order_by("-id").first()
    since = checkpoint.created_at if checkpoint else row.created_at
    return LastCapture(
        ended=checkpoint.ended if checkpoint else 0,
        failed=checkpoint.failed if checkpoint else 0,
        age_s=(timezone.now() - since).total_seconds(),
    )


def _has_changed(mission: UUID) -> bool:
    """Whether anything has happened to a mission since its last capture."""
    if newest(mission) is None:
        return True
    last_kind = Event.objects.filter(scope=mission).order_by("-xid", "-id").values_list("kind", flat=True).first()
    return last_kind is not None and last_kind != "checkpoint.created"


def _capture_before(missions: Sequence[UUID], moment: str, trigger: Trigger) -> None:
    rows = Mission.objects.filter(id__in=missions).exclude(state=MissionState.CANCELLING).only("id", "checkpoints")
    selected = [row.id for row in rows if moment in Policy.of(row.checkpoints).on and _has_changed(row.id)]
    if selected:
        _capture(selected, trigger)


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
            Event.objects.create(
                kind="checkpoint.failed", scope=mission, subject=mission, data={"trigger": trigger, "error": error}
            )
