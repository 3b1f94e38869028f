"""Launches due, waiting and requested ticks.

Each function decides one tick. The slow part, reading the plan and resolving its repository, comes first, outside a
transaction. Then one transaction locks the schedule, checks that nobody has decided the tick or changed the schedule in
the meantime, and writes the tick, the mission and the next time. So a tick is decided once, however many control loops
run, and a loop that dies halfway has changed nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from fleet import audit, caller, errors
from fleet.events.models import Event
from fleet.limits import costs
from fleet.postgres import clock, retries
from missions.models import Mission, Overlap, Schedule, Tick
from missions.operations import cancelling, launching
from missions.operations.schedules import editing, launches, policies
from missions.operations.schedules.policies import OverlapAction
from missions.states import FINAL_MISSION_STATES, MissionState

log = logging.getLogger("fleet.schedules")

RETRY = timedelta(minutes=10)
TEMPORARY = (errors.Unavailable, errors.RateLimited)


def decide_next(*, schedule: UUID, now: datetime) -> Tick | None:
    """Decide the next tick of a schedule. None if none is due at `now`, or another control loop decides it."""
    row = _find(schedule)
    due = _next_tick(row, now) if row is not None else None
    if row is None or due is None:
        return None
    launch, reason = None, due.skip
    if not reason and _overlap_action(row) is OverlapAction.LAUNCH:
        try:
            launch, reason = _prepare(row, due.at, now)
        except TEMPORARY:
            return None
    outcome = Tick.Outcome.SKIPPED if due.skip else Tick.Outcome.FAILED

    def decide(locked: Schedule) -> Tick | None:
        if locked.next_at != row.next_at:
            return None  # another control loop has decided it
        if Tick.objects.filter(schedule=locked, at=due.at).exists():  # the database's clock was set back
            Schedule.objects.filter(id=locked.id).update(next_at=due.next_at)
            return None
        tick = Tick(schedule=locked, at=due.at, missed=due.missed)
        if reason:
            tick.outcome, tick.reason = outcome, reason
        else:
            _apply_overlap(locked, tick, launch)
        _save(locked, tick, next_at=due.next_at)
        return tick

    def failed_tick(locked: Schedule) -> Tick | None:
        return Tick(schedule=locked, at=due.at, missed=due.missed) if locked.next_at == row.next_at else None

    return _decide_locked(row, decide, failed_tick=failed_tick, next_at=due.next_at)


def launch_waiting(*, schedule: UUID, now: datetime) -> Tick | None:
    """Launch the oldest waiting tick once all missions of the schedule have ended. The policy `cancel` cancels them."""
    row = _find(schedule)
    waiting = _waiting(row).order_by("at").first() if row is not None else None
    if row is None or waiting is None:
        return None
    live = _live(row)
    if live and row.overlap == Overlap.CANCEL:
        _cancel(row, live)
        live = _live(row)
    if live and row.overlap != Overlap.ALLOW:
        Schedule.objects.filter(id=schedule, lease_until=row.lease_until).update(lease_until=None)
        return None
    skip = policies.lateness_reason(row, at=waiting.at, now=now)
    try:
        launch, reason = (None, skip) if skip else _prepare(row, waiting.at, now)
    except TEMPORARY:
        return None
    outcome = Tick.Outcome.SKIPPED if skip else Tick.Outcome.FAILED

    def decide(locked: Schedule) -> Tick | None:
        tick = _waiting(locked).filter(id=waiting.id).first()
        if tick is None or (_live(locked) and locked.overlap != Overlap.ALLOW):
            return None
        if reason or launch is None:
            tick.outcome, tick.reason = outcome, reason
        else:
            _launch(locked, tick, launch)
        _save(locked, tick)
        return tick

    return _decide_locked(row, decide, failed_tick=lambda locked: _waiting(locked).filter(id=waiting.id).first())


def run_now(*, schedule: UUID, can_execute: bool) -> Tick:
    """Launch a schedule now, even a paused one, with its owner's permissions. Its next tick does not change.

    Its overlap policy applies, so the tick may wait. Raises Conflict if it would be skipped, or if the owner may no
    longer launch it; Forbidden if it runs user-supplied code and the caller may not (`can_execute`); further errors as
    for `editing.create`.
    """
    row = editing.find(schedule)
    with editing.owner_refusal_as_conflict(can_execute=can_execute):
        launch = launches.prepare(row, at=clock.now())
        editing.require_execute(launch, can_execute=can_execute)
    with transaction.atomic():
        locked = Schedule.objects.select_for_update(of=("self",)).filter(id=schedule, revision=row.revision).first()
        if locked is None:
            raise errors.Conflict("The schedule was changed concurrently.", hint="Try again.")
        tick = Tick(schedule=locked, at=clock.now(), requested=True)
        _apply_overlap(locked, tick, launch)
        if tick.outcome == Tick.Outcome.SKIPPED:
            raise errors.Conflict(tick.reason, hint="Wait until it has ended, or cancel it.")
        _save(locked, tick)
        mission = {"mission": tick.mission.ref} if tick.mission else {}
        audit.record(kind="schedule.run", subject=locked.ref, after={"outcome": tick.outcome, **mission})
    return tick


def _find(schedule: UUID) -> Schedule | None:
    return Schedule.objects.select_related("owner", "team").filter(id=schedule).first()


def _next_tick(row: Schedule, now: datetime) -> policies.NextTick | None:
    return policies.next_tick(
        row, now=now, catch_up=settings.FLEET_SCHEDULE_CATCH_UP, on_time_s=settings.FLEET_SCHEDULE_ON_TIME_S
    )


def _prepare(row: Schedule, at: datetime, now: datetime) -> tuple[launching.Launch | None, str]:
    """The checked launch, or the reason why it is refused.

    Raises a TEMPORARY error while the tick is less than RETRY late, for example if the server of the repository does
    not answer or the owner's budget of CPU time is used up: the tick stays undecided, and is tried again when the lease
    has ended.
    """
    try:
        with _charge_owner(row.owner_id):
            return launches.prepare(row, at=at), ""
    except errors.FleetError as error:
        if isinstance(error, TEMPORARY) and now - at < RETRY:
            log.warning("%s: %s", row, error)
            raise
        return None, str(error)
    except retries.TRANSIENT:
        raise
    except Exception as error:  # a bug must not block the later ticks of the schedule
        log.exception("%s cannot be launched", row)
        return None, f"An internal error: {type(error).__name__}. The log of the control loop has its details."


@contextmanager
def _charge_owner(owner: int | None) -> Iterator[None]:
    """Charge a user's API budget for the CPU time of the block. Raises BudgetExceeded if the budget is used up.

    So large plans of one user cannot delay the schedules of others.
    """
    if owner is None:
        yield
        return
    costs.check(owner)
    costs.begin()
    started_at = time.thread_time()
    try:
        yield
    finally:
        costs.charge(owner, time.thread_time() - started_at)


def _decide_locked(
    row: Schedule,
    decide: Callable[[Schedule], Tick | None],
    *,
    failed_tick: Callable[[Schedule], Tick | None],
    next_at: datetime | None = None,
) -> Tick | None:
    """Call `decide` with the locked schedule, if it has not been changed.

    If the rows of the mission cannot be written, they are rolled back and the tick that `failed_tick` returns is stored
    as failed.
    """

    def lock_if_unchanged() -> Schedule | None:
        unchanged = Schedule.objects.filter(id=row.id, revision=row.revision)
        return unchanged.select_related("owner", "team").select_for_update(of=("self",), skip_locked=True).first()

    acting = caller.Caller(name=f"schedule:{row.ref}", user=row.owner_id)
    with caller.acting_as(acting):
        try:
            with transaction.atomic():
                schedule = lock_if_unchanged()
                return decide(schedule) if schedule is not None else None
        except retries.TRANSIENT:
            raise
        except Exception as error:
            log.exception("%s cannot be launched", row)
            reason = f"The mission could not be stored: {error}"
        with transaction.atomic():
            schedule = lock_if_unchanged()
            if schedule is None or (tick := failed_tick(schedule)) is None:
                return None
            tick.outcome, tick.reason, tick.mission = Tick.Outcome.FAILED, reason, None
            _save(schedule, tick, next_at=next_at)
            return tick


def _live(row: Schedule) -> list[Mission]:
    """The missions of a schedule that have not ended, the oldest first."""
    return list(
        Mission.objects.filter(schedule=row).exclude(state__in=FINAL_MISSION_STATES).order_by("id").only("id", "state")
    )


def _waiting(row: Schedule) -> QuerySet[Tick]:
    return Tick.objects.filter(schedule=row, outcome=Tick.Outcome.WAITING)


def _overlap_action(row: Schedule) -> OverlapAction:
    live = [mission.ref for mission in _live(row)]
    return policies.overlap_action(
        row, live=live, waiting=_waiting(row).count(), catch_up=settings.FLEET_SCHEDULE_CATCH_UP
    )


def _apply_overlap(row: Schedule, tick: Tick, launch: launching.Launch | None) -> None:
    """Set the outcome of a new tick.

    `launch` is None if an earlier mission was still running when the launch would have been prepared. If that mission
    has ended since, the tick waits anyway, for a moment, or is skipped.
    """
    live = [mission.ref for mission in _live(row)]
    waiting = _waiting(row)
    number = waiting.count()
    action = policies.overlap_action(row, live=live, waiting=number, catch_up=settings.FLEET_SCHEDULE_CATCH_UP)
    if action is OverlapAction.LAUNCH and launch is None:
        action = OverlapAction.SKIP if row.overlap == Overlap.SKIP else OverlapAction.WAIT
    match action:
        case OverlapAction.LAUNCH if launch is not None:
            _launch(row, tick, launch)
            return
        case OverlapAction.REPLACE:
            row.skips += waiting.update(
                outcome=Tick.Outcome.SKIPPED, reason="A later tick replaced it.", decided_at=Now()
            )
            tick.outcome = Tick.Outcome.WAITING
        case OverlapAction.SKIP:
            tick.outcome = Tick.Outcome.SKIPPED
        case _:
            tick.outcome = Tick.Outcome.WAITING
    tick.reason = policies.blocking_reason(live, number)


def _launch(row: Schedule, tick: Tick, launch: launching.Launch) -> None:
    tick.mission = launching.create(launch, schedule=row)
    tick.outcome, tick.reason = Tick.Outcome.LAUNCHED, ""


def _save(row: Schedule, tick: Tick, *, next_at: datetime | None = None) -> None:
    """Store a decided tick with its event, and what it changes in its schedule, which is locked."""
    new = tick.pk is None
    tick.reason, tick.decided_at = tick.reason[:500], Now()
    tick.save(force_insert=new)
    tick.refresh_from_db(fields=["decided_at"])
    launched, failed = tick.outcome == Tick.Outcome.LAUNCHED, tick.outcome == Tick.Outcome.FAILED
    row.skips += (tick.missed if new else 0) + (tick.outcome == Tick.Outcome.SKIPPED)
    row.runs += launched
    row.failures += failed
    row.failures_in_a_row = 0 if launched else row.failures_in_a_row + failed
    row.lease_until = None
    if new and not tick.requested:
        row.next_at = next_at
    row.save(update_fields=["skips", "runs", "failures", "failures_in_a_row", "lease_until", "next_at"])
    Event.objects.create(
        kind=f"schedule.{tick.outcome}",
        subject=row.id,
        data={
            "name": row.name,
            "at": tick.at.isoformat(),
            "late_s": round(max(0.0, (tick.decided_at - tick.at).total_seconds()), 3),
            **({"missed": tick.missed} if tick.missed and new else {}),
            **({"reason": tick.reason} if tick.reason else {}),
            **({"mission": tick.mission.ref} if tick.mission else {}),
        },
    )


def _cancel(row: Schedule, live: list[Mission]) -> None:
    with caller.acting_as(caller.Caller(name=f"schedule:{row.ref}", user=row.owner_id)):
        for mission in live:
            if mission.state != MissionState.CANCELLING:
                with suppress(errors.Conflict):  # it has just ended
                    cancelling.cancel(mission=mission.id, reason=f"The next run of the schedule {row.name} is due.")
