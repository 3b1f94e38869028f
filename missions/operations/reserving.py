"""Reservations that attempts request while they run, and their release."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now

from fleet import audit, errors
from fleet.console import invocation
from fleet.events.models import Event
from fleet.postgres import locks
from fleet.postgres.locks import Lock
from missions.claims import Claim
from missions.models import Conflict, Reservation, Sortie, Workspace
from missions.operations.external_agents import attempt_auth
from missions.plan import PATTERN_FIX, globs, pattern_problem
from missions.states import SortieState
from missions.workspaces import conflicts, reservations
from missions.workspaces.reservation_index import ReservationIndex, ReservedPattern

MAX_TTL_S = 3_600.0
MAX_PATTERNS = 20  # of one request
MAX_REQUESTED = 100  # patterns of one attempt


class FilesReserved(errors.Conflict):
    """Another sortie has reserved some of the files, so none were granted."""


def request(*, token: str, patterns: Sequence[str], shared: bool, ttl_s: float) -> list[Reservation]:
    """Reserve files for a running attempt: all of them, or none. Never waits for another holder.

    The reservations end after `ttl_s` seconds, at most an hour, or with the attempt. Requesting the same pattern again
    extends it. Raises Invalid for a pattern that leaves the repository, or for a sortie without a copy of one;
    FilesReserved if another sortie has reserved some of the files, which is recorded as a conflict.
    """
    claim = attempt_auth.authenticate(token).claim
    workspace = Workspace.objects.filter(mission=claim.mission).first()
    if workspace is None or claim.spec.get("workspace") is False:
        raise errors.Invalid(
            f"{claim.key} has no copy of a repository, so it has no files to reserve.",
            hint="Add a workspace to the plan.",
        )
    for pattern in patterns:
        if problem := pattern_problem(pattern):
            raise errors.Invalid(problem, hint=PATTERN_FIX, pointer="/patterns")
    branch = (workspace.repository, workspace.branch)
    with transaction.atomic():
        locks.lock(Lock.ADMISSION, halted_s=reservations.HALTED_S)
        attempt_auth.authenticate(token)  # it may have ended while this waited for the lock
        refused = _find_holder(claim, branch, patterns, shared=shared)
        if refused is None:
            return _grant(claim, branch, list(dict.fromkeys(patterns)), shared=shared, ttl_s=ttl_s)
        pattern, holder = refused
        _record_refusal(claim, pattern, holder)
    # Outside the transaction, which stores the conflict.
    raise FilesReserved(
        f"{pattern} is not free: {holder.name_for(claim.mission)} has reserved {holder.pattern}.",
        hint="Change other files for now and request these again later, or leave them to that sortie.",
    )


def _find_holder(
    claim: Claim, branch: reservations.Branch, patterns: Sequence[str], *, shared: bool
) -> tuple[str, ReservedPattern] | None:
    """The first pattern that overlaps a reservation of another sortie, and that reservation; None if all are free."""
    index = ReservationIndex()
    for _, reservation in reservations.in_force([branch]):
        index.add(reservation)
    for pattern in patterns:
        requested = ReservedPattern(claim.id, claim.mission, claim.key, globs.parse(pattern), shared)
        if (holder := index.find_conflict(requested)) is not None:
            return pattern, holder
    return None


def _grant(
    claim: Claim, branch: reservations.Branch, patterns: Sequence[str], *, shared: bool, ttl_s: float
) -> list[Reservation]:
    own = Reservation.objects.filter(sortie=claim.id, attempt=claim.attempt)
    own.filter(pattern__in=patterns, shared=shared).delete()
    if own.filter(until__gt=Now(), released_at__isnull=True).count() + len(patterns) > MAX_REQUESTED:
        raise errors.Conflict(
            f"An attempt may request at most {MAX_REQUESTED} reservations.",
            hint="Release some, or request their folder instead.",
        )
    repository, name = branch
    granted = [
        Reservation(
            sortie_id=claim.id,
            attempt=claim.attempt,
            repository=repository,
            branch=name,
            pattern=pattern,
            folder=globs.parse(pattern).folder_key,
            shared=shared,
            until=Now() + timedelta(seconds=ttl_s),
        )
        for pattern in patterns
    ]
    Reservation.objects.bulk_create(granted)
    return list(Reservation.objects.filter(id__in=[row.id for row in granted]).select_related("sortie"))


def _record_refusal(claim: Claim, pattern: str, holder: ReservedPattern) -> None:
    """Store the conflict, once per attempt and pattern: an attempt may repeat its request many times."""
    kind = Conflict.Kind.RESERVATION
    if not Conflict.objects.filter(sortie=claim.id, attempt=claim.attempt, kind=kind, files=[pattern]).exists():
        conflicts.record(
            sortie=claim.id,
            mission=claim.mission,
            attempt=claim.attempt,
            kind=kind,
            outcome=Conflict.Outcome.REFUSED,
            others=[holder.name_for(claim.mission)],
            files=[pattern],
        )


def release_requested(*, token: str, patterns: Sequence[str] = ()) -> int:
    """Release what the running attempt has requested: these patterns, or all. Returns how many."""
    claim = attempt_auth.authenticate(token).claim
    rows = Reservation.objects.filter(sortie=claim.id, attempt=claim.attempt, released_at__isnull=True)
    if patterns:
        rows = rows.filter(pattern__in=patterns)
    with transaction.atomic():
        released = rows.update(released_at=Now())
        _unblock(claim.id)
    return released


def release(*, reservation: UUID) -> Reservation:
    """Release a reservation, even if its sortie is still running: others may then change its files.

    The sortie's own work is not affected; if both change the same lines, that is a conflict when they are merged.
    Raises Conflict if the reservation has ended or was released.
    """
    with transaction.atomic():
        row = (
            Reservation.objects.select_for_update(of=("self",)).select_related("sortie").filter(id=reservation).first()
        )
        if row is None:
            raise errors.NotFound("There is no such reservation.")
        if row.released_at is not None or SortieState(row.sortie.state).final:
            raise errors.Conflict(
                f"The reservation of {row.pattern} by {row.sortie.key} has ended.",
                hint=f"List those in force: {invocation.command('fleet_reservations', 'list')}",
                over_http="See GET /api/v1/missions/{id}/reservations.",
            )
        Reservation.objects.filter(id=row.id).update(released_at=Now())
        _unblock(row.sortie_id)
        Sortie.objects.filter(id=row.sortie_id, state=SortieState.READY).update(blocked_by=None)
        Event.objects.create(
            kind="sortie.reservation_released",
            scope=row.sortie.mission_id,
            subject=row.sortie_id,
            data={"pattern": row.pattern},
        )
        audit.record(
            kind="reservation.release",
            subject=row.ref,
            before={"sortie": row.sortie.ref, "pattern": row.pattern, "shared": row.shared},
        )
    row.refresh_from_db()
    return row


def _unblock(holder: UUID) -> None:
    """Have the sorties that wait for this one contend again."""
    Sortie.objects.filter(blocked_by=holder, state=SortieState.READY).update(blocked_by=None)
