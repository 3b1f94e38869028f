"""Create, change, pause, resume and delete schedules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.db import IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Now

from fleet import audit, errors
from fleet.console import invocation
from fleet.events.models import Event
from fleet.postgres import clock
from missions import cron
from missions.models import CatchUp, Overlap, Schedule, Tick
from missions.operations import permissions
from missions.operations.launching import Launch
from missions.operations.schedules import launches

MAX_NAME = 60
MAX_DEADLINE_S = 366 * 86_400.0
LAUNCH_FIELDS = frozenset({"plan", "template", "params", "folder"})
CHANGEABLE = LAUNCH_FIELDS | {"name", "cron", "timezone", "overlap", "catch_up", "deadline_s", "team"}
AUDITED_FIELDS = ("name", "cron", "timezone", "overlap", "catch_up", "deadline_s", "template", "params", "folder")


def create(
    *,
    name: str,
    cron: str,
    timezone: str,
    plan: str = "",
    template: str = "",
    params: Mapping[str, Any],
    folder: str = "",
    team: Group | None = None,
    owner: User | None,
    operator: bool = False,
    overlap: str = Overlap.SKIP,
    catch_up: str = CatchUp.ONCE,
    deadline_s: float = 0.0,
    paused: bool = False,
) -> Schedule:
    """Create a schedule that launches `plan`, a text, or a template, with the permissions of `owner`.

    `operator`: the host's operator creates it; then it has no owner, and runs with the operator's permissions.
    Everything is checked as if it were launched now, with the same errors. Raises Conflict if the owner has a schedule
    of that name, or as many as FLEET_MAX_SCHEDULES.
    """
    row = Schedule(
        name=name,
        cron=cron.strip(),
        timezone=timezone,
        plan=plan,
        template=template,
        params=dict(params),
        folder=folder,
        team=team,
        owner=owner,
        operator=operator,
        overlap=overlap,
        catch_up=catch_up,
        deadline_s=deadline_s,
        paused=paused,
    )
    _check(row)
    with transaction.atomic(), _unique_name(name):
        if owner is not None:
            _require_room(owner)
        row.next_at = _next(row)
        row.save(force_insert=True)
        record(row, "created", "create", after={**_audit_data(row), "paused": paused})
    row.refresh_from_db()
    return row


def change(*, schedule: UUID, can_execute: bool, operator: bool = False, changes: Mapping[str, Any]) -> Schedule:
    """Change some of the fields `CHANGEABLE`. Everything is checked as for `create`.

    A new expression or zone applies from now on. Raises Forbidden if the changed schedule would run user-supplied code
    and the caller may not (`can_execute`), or if it has the permissions of the host's operator, who alone may change
    what it launches (`operator`); Conflict if its owner may not launch it.
    """
    if unknown := set(changes) - CHANGEABLE:
        raise ValueError(f"no such fields: {unknown}")
    row = find(schedule)
    if row.operator and not operator and changes.keys() & LAUNCH_FIELDS:
        raise errors.Forbidden(
            "This schedule has the permissions of the host's operator, who alone may change what it launches.",
            hint=f"On the host: {invocation.command('fleet_schedule', 'change', row.name)}",
        )
    for field, value in changes.items():
        setattr(row, field, value)
    row.cron = row.cron.strip()
    with owner_refusal_as_conflict(can_execute=can_execute):
        launch = _check(row)
        if changes.keys() & LAUNCH_FIELDS:
            require_execute(launch, can_execute=can_execute)
    with transaction.atomic(), _unique_name(row.name):
        before = _lock(schedule)
        values: dict[str, Any] = {field: getattr(row, field) for field in changes}
        if not before.paused and {"cron", "timezone"} & changes.keys():
            values["next_at"] = _next(row)
        Schedule.objects.filter(id=schedule).update(**values, revision=F("revision") + 1, changed_at=Now())
        after = find(schedule)
        old, new = _audit_data(before), _audit_data(after)
        changed = [field for field in new if old[field] != new[field]]
        record(
            after,
            "changed",
            "change",
            before={field: old[field] for field in changed},
            after={field: new[field] for field in changed},
        )
    return after


def pause(*, schedule: UUID, reason: str = "") -> Schedule:
    """Pause a schedule: it has no ticks until it is resumed, and waiting ticks are skipped. Its missions continue.

    Raises Conflict if it is already paused.
    """
    with transaction.atomic():
        row = _lock(schedule)
        if row.paused:
            raise errors.Conflict(f"{row.name} is already paused.")
        waiting = Tick.objects.filter(schedule=schedule, outcome=Tick.Outcome.WAITING)
        skipped = waiting.update(
            outcome=Tick.Outcome.SKIPPED, reason="The schedule was paused while it waited.", decided_at=Now()
        )
        Schedule.objects.filter(id=schedule).update(
            paused=True,
            reason=reason[:500],
            next_at=None,
            skips=F("skips") + skipped,
            revision=F("revision") + 1,
            changed_at=Now(),
        )
        record(row, "paused", "pause", after={"reason": reason} if reason else None)
    return find(schedule)


def resume(*, schedule: UUID, can_execute: bool) -> Schedule:
    """Resume a paused schedule. Ticks missed during the pause are not caught up.

    It is checked as for `create`. Raises Conflict if it is not paused, or if its owner may no longer launch it;
    Forbidden if it runs user-supplied code and the caller may not.
    """
    row = find(schedule)
    with owner_refusal_as_conflict(can_execute=can_execute):
        require_execute(_check(row), can_execute=can_execute)
    with transaction.atomic():
        row = _lock(schedule)
        if not row.paused:
            raise errors.Conflict(f"{row.name} is not paused.")
        row.paused = False
        Schedule.objects.filter(id=schedule).update(
            paused=False,
            reason="",
            next_at=_next(row),
            failures_in_a_row=0,
            revision=F("revision") + 1,
            changed_at=Now(),
        )
        record(row, "resumed", "resume")
    return find(schedule)


def delete(*, schedule: UUID) -> None:
    """Delete a schedule and the record of its ticks. Its missions stay, and running ones continue."""
    with transaction.atomic():
        row = _lock(schedule)
        record(row, "deleted", "delete", before=_audit_data(row))
        Schedule.objects.filter(id=schedule).delete()


def find(schedule: UUID) -> Schedule:
    """The schedule with its owner and team. Raises NotFound if there is none."""
    row = Schedule.objects.select_related("owner", "team").filter(id=schedule).first()
    if row is None:
        raise errors.NotFound("There is no such schedule.")
    return row


def require_execute(launch: Launch, *, can_execute: bool) -> None:
    """Raise Forbidden if the launch runs user-supplied code and the caller, not only the owner, may not start it."""
    if not launch.template:
        permissions.require_for_plan(plan=launch.plan, can_execute=can_execute)


@contextmanager
def owner_refusal_as_conflict(*, can_execute: bool) -> Iterator[None]:
    """Turn a Forbidden into a Conflict if the schedule's owner lacks the permission and the caller has it."""
    try:
        yield
    except errors.Forbidden as error:
        if not can_execute:
            raise
        raise errors.Conflict(
            f"The owner of the schedule may not launch it. {error.message}", hint=error.hint
        ) from None


def _check(row: Schedule) -> Launch:
    """Check every setting of a schedule, and return what it would launch now."""
    if not row.name.strip() or len(row.name) > MAX_NAME or not row.name.isprintable():
        raise errors.Invalid(f"A schedule needs a name of 1 to {MAX_NAME} printable characters.", pointer="/name")
    if bool(row.plan) == bool(row.template):
        raise errors.Invalid("A schedule launches either a plan or a template.", hint="Name exactly one of them.")
    if not 0 <= row.deadline_s <= MAX_DEADLINE_S:
        raise errors.Invalid("The deadline must be between 0 (none) and a year.", pointer="/deadline_s")
    cron.check(cron=row.cron, timezone=row.timezone)
    return launches.prepare(row, at=_next(row) or clock.now())


def _next(row: Schedule) -> datetime | None:
    """The next tick from now on; None for a paused schedule."""
    return None if row.paused else cron.next_time(cron=row.cron, timezone=row.timezone, after=clock.now())


def _require_room(owner: User) -> None:
    # Locked, so that of two concurrent creations one counts the other.
    User.objects.select_for_update(of=("self",), no_key=True).get(id=owner.id)
    limit = settings.FLEET_MAX_SCHEDULES
    if limit and Schedule.objects.filter(owner=owner).count() >= limit:
        raise errors.Conflict(f"{owner} has reached the limit of {limit} schedules.", hint="Delete one.")


@contextmanager
def _unique_name(name: str) -> Iterator[None]:
    try:
        with transaction.atomic():
            yield
    except IntegrityError as error:
        if "schedule_name_once" not in str(error):
            raise
        raise errors.Conflict(
            f"A schedule named {name!r} already exists.",
            hint=f"Choose another name, or change that one: {invocation.command('fleet_schedule', 'change', name)}",
            over_http="Choose another name, or change that one.",
        ) from None


def _lock(schedule: UUID) -> Schedule:
    row = Schedule.objects.select_for_update(of=("self",)).select_related("owner", "team").filter(id=schedule).first()
    if row is None:
        raise errors.NotFound("There is no such schedule.")
    return row


def _audit_data(row: Schedule) -> dict[str, Any]:
    """The schedule for the audit trail, without its plan, which may be long and contain secrets."""
    return {
        **{field: getattr(row, field) for field in AUDITED_FIELDS},
        "team": row.team.name if row.team else None,
        "owner": row.owner.username if row.owner else None,
        "plan": len(row.plan) or None,  # characters
    }


def record(
    row: Schedule,
    event: str,
    action: str,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Write the event and the audit record of a change. Others may read the event, so it has only the name."""
    Event.objects.create(kind=f"schedule.{event}", subject=row.id, data={"name": row.name})
    audit.record(kind=f"schedule.{action}", subject=row.ref, before=before, after=after)
