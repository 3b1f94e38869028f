"""Launch what is due, what waits, and what somebody requests.

Each function decides one tick. What may take long, reading the plan and asking for its repository, comes first, without
a transaction. Then one transaction locks the schedule, checks that nobody has decided the tick or changed the schedule
meanwhile, and writes the tick, the mission and the next time. So a tick is decided once, however many control loops
run, and a loop that dies in between has changed nothing.
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
from missions.operations.schedules.policies import Fate
from missions.states import MissionState

log = logging.getLogger("fleet.schedules")

FINAL = [state.value for state in MissionState if state.final]
RETRY = timedelta(minutes=10)
NOT_NOW = (errors.Unavailable, errors.RateLimited)


def decide_next(*, schedule: UUID, now: datetime) -> Tick | None:
    """Decide the next tick of a schedule. None if none is due at `now`, or another control loop decides it."""
    row = _find(schedule)
    tick = _next_tick(row, now) if row is not None else None
    if row is None or tick is None:
        return None
    launch, fault = None, tick.skip
    if not fault and _fate(row) is Fate.LAUNCH:
        try:
            launch, fault = _prepared(row, tick.at, now)
        except NOT_NOW:
            return None
    outcome = Tick.Outcome.SKIPPED if tick.skip else Tick.Outcome.FAILED

    def decide(locked: Schedule) -> Tick | None:
        if locked.next_at != row.next_at:
            return None  # another control loop has decided it
        if Tick.objects.filter(schedule=locked, at=tick.at).exists():  # the database's clock was set back
            Schedule.objects.filter(id=locked.id).update(next_at=tick.next_at)
            return None
        decided = Tick(schedule=locked, at=tick.at, missed=tick.missed)
        if fault:
            decided.outcome, decided.reason = outcome, fault
        else:
            _apply_overlap(locked, decided, launch)
        _save(locked, decided, next_at=tick.next_at)
        return decided

    def undecided(locked: Schedule) -> Tick | None:
        return Tick(schedule=locked, at=tick.at, missed=tick.missed) if locked.next_at == row.next_at else None

    return _decided(row, decide, undecided=undecided, next_at=tick.next_at)


def launch_waiting(*, schedule: UUID, now: datetime) -> Tick | None:
    """Launch the oldest tick that waits, if no mission of the schedule is left. With `cancel`, cancel those first."""
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
    skip = policies.lateness(row, at=waiting.at, now=now)
    try:
        launch, fault = (None, skip) if skip else _prepared(row, waiting.at, now)
    except NOT_NOW:
        return None
    outcome = Tick.Outcome.SKIPPED if skip else Tick.Outcome.FAILED

    def decide(locked: Schedule) -> Tick | None:
        tick = _waiting(locked).filter(id=waiting.id).first()
        if tick is None or (_live(locked) and locked.overlap != Overlap.ALLOW):
            return None
        if fault or launch is None:
            tick.outcome, tick.reason = outcome, fault
        else:
            _launch(locked, tick, launch)
        _save(locked, tick)
        return tick

    return _decided(row, decide, undecided=lambda locked: _waiting(locked).filter(id=waiting.id).first())


def run_now(*, schedule: UUID, executes: bool) -> Tick:
    """Launch a schedule now, also a paused one, with its owner's rights; its next tick stays as it is.

    Its overlap policy applies: the tick may wait; Conflict if it would be skipped, or if the owner may not launch it any
    more. Errors as for `editing.create`, and Forbidden if it runs user-supplied code and the caller may not (`executes`).
    """
    row = editing.find(schedule)
    with editing.refusing_for_owner(executes=executes):
        launch = launches.prepare(row, at=clock.now())
        editing.require_execute(launch, executes=executes)
    with transaction.atomic():
        locked = Schedule.objects.select_for_update(of=("self",)).filter(id=schedule, revision=row.revision).first()
        if locked is None:
            raise errors.Conflict("The schedule was changed at this moment.", hint="Try again.")
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


def _prepared(row: Schedule, at: datetime, now: datetime) -> tuple[launching.Launch | None, str]:
    """The checked launch, or why it is refused.

    Raises one of NOT_NOW while it is less than RETRY late, for example if the server of the repository does not answer
    or the owner's budget of CPU time is used up: the tick stays undecided, and is tried again when the lease has
    ended.
    """
    try:
        with _charged(row.owner_id):
            return launches.prepare(row, at=at), ""
    except errors.FleetError as refused:
        if isinstance(refused, NOT_NOW) and now - at < RETRY:
            log.warning("%s: %s", row, refused)
            raise
        return None, str(refused)
    except retries.TRANSIENT:
        raise
    except Exception as fault:  # it must not keep the schedule from its later ticks
        log.exception("%s cannot be launched", row)
        return None, f"An internal error: {type(fault).__name__}. The log of the control loop has its details."


@contextmanager
def _charged(owner: int | None) -> Iterator[None]:
    """Charge a user for the CPU time of the block, from the budget of the API: nobody can keep the control loop
    from the schedules of others with large plans. BudgetExceeded if it is used up."""
    if owner is None:
        yield
        return
    costs.check(owner)
    costs.begin()
    began = time.thread_time()
    try:
        yield
    finally:
        costs.charge(owner, time.thread_time() - began)


def _decided(
    row: Schedule,
    decide: Callable[[Schedule], Tick | None],
    *,
    undecided: Callable[[Schedule], Tick | None],
    next_at: datetime | None = None,
) -> Tick | None:
    """Call `decide` with the locked schedule, if it has not been changed.

    If the rows of the mission cannot be written, that is rolled back and the tick, as `undecided` returns it, fails.
    """

    def locked() -> Schedule | None:
        unchanged = Schedule.objects.filter(id=row.id, revision=row.revision)
        return unchanged.select_related("owner", "team").select_for_update(of=("self",), skip_locked=True).first()

    acting = caller.Caller(name=f"schedule:{row.ref}", user=row.owner_id)
    with caller.acting(acting):
        try:
            with transaction.atomic():
                schedule = locked()
                return decide(schedule) if schedule is not None else None
        except retries.TRANSIENT:
            raise
        except Exception as fault:
            log.exception("%s cannot be launched", row)
            reason = f"The mission could not be stored: {fault}"
        with transaction.atomic():
            schedule = locked()
            if schedule is None or (tick := undecided(schedule)) is None:
                return None
            tick.outcome, tick.reason, tick.mission = Tick.Outcome.FAILED, reason, None
            _save(schedule, tick, next_at=next_at)
            return tick


def _live(row: Schedule) -> list[Mission]:
    """The missions of a schedule that have not ended, the oldest first."""
    return list(Mission.objects.filter(schedule=row).exclude(state__in=FINAL).order_by("id").only("id", "state"))


def _waiting(row: Schedule) -> QuerySet[Tick]:
    return Tick.objects.filter(schedule=row, outcome=Tick.Outcome.WAITING)


def _fate(row: Schedule) -> Fate:
    live = [mission.ref for mission in _live(row)]
    return policies.fate(row, live=live, waiting=_waiting(row).count(), catch_up=settings.FLEET_SCHEDULE_CATCH_UP)


def _apply_overlap(row: Schedule, tick: Tick, launch: launching.Launch | None) -> None:
    """Set the outcome of a new tick.

    `launch` is None if an earlier mission was in the way when the launch would have been prepared. If that has ended
    since, the tick waits all the same, for a moment, or is skipped.
    """
    live = [mission.ref for mission in _live(row)]
    waiting = _waiting(row)
    number = waiting.count()
    fate = policies.fate(row, live=live, waiting=number, catch_up=settings.FLEET_SCHEDULE_CATCH_UP)
    if fate is Fate.LAUNCH and launch is None:
        fate = Fate.SKIP if row.overlap == Overlap.SKIP else Fate.WAIT
    match fate:
        case Fate.LAUNCH if launch is not None:
            _launch(row, tick, launch)
            return
        case Fate.REPLACE:
            row.skips += waiting.update(
                outcome=Tick.Outcome.SKIPPED, reason="A later tick took its place.", decided_at=Now()
            )
            tick.outcome = Tick.Outcome.WAITING
        case Fate.SKIP:
            tick.outcome = Tick.Outcome.SKIPPED
        case _:
            tick.outcome = Tick.Outcome.WAITING
    tick.reason = policies.obstacle(live, number)


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
    with caller.acting(caller.Caller(name=f"schedule:{row.ref}", user=row.owner_id)):
        for mission in live:
            if mission.state != MissionState.CANCELLING:
                with suppress(errors.Conflict):  # it has ended meanwhile
                    cancelling.cancel(mission=mission.id, reason=f"The next run of the schedule {row.name} is due.")
