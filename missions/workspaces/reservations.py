"""Reservations: files of a branch that only one sortie may change at a time, or that others may only read.

A plan reserves files for a sortie (`touches`, `reads`), which admission puts into force; an attempt may request more.
Whether a reservation is in force follows from its sortie and its attempt, so nothing has to release it when they end.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from uuid import UUID

from django.db import connection

from fleet.postgres import statements
from missions.plan import globs
from missions.workspaces.reservation_index import ReservationIndex, ReservedPattern

Branch = tuple[str, str]  # the repository and the name
HALTED_S = 5.0  # after this, Postgres ends the transaction of a process that was suspended while it held the lock


def planned(sorties: Sequence[UUID]) -> list[tuple[Branch, ReservedPattern]]:
    """What the plan reserves for these sorties, in force or not."""
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions.workspaces", "planned_reservations"), {"sorties": list(sorties)})
        return [
            ((repository, branch), ReservedPattern(sortie, mission, key, globs.parse(pattern), shared))
            for repository, branch, sortie, mission, key, pattern, shared in cursor.fetchall()
        ]


def in_force(branches: Collection[Branch], *, changes: bool = True) -> list[tuple[Branch, ReservedPattern]]:
    """What is reserved on these branches now. `changes`: also the files of changes that are still to be merged."""
    with connection.cursor() as cursor:
        cursor.execute(
            statements.read("missions.workspaces", "reservations_in_force"),
            {**parameters(branches), "changes": changes},
        )
        return [
            (
                (repository, branch),
                ReservedPattern(sortie, mission, key, (globs.of_file if literal else globs.parse)(pattern), shared),
            )
            for repository, branch, sortie, mission, key, pattern, shared, literal in cursor.fetchall()
        ]


def find_conflicts(*, sortie: UUID, mission: UUID, branch: Branch, paths: Iterable[str]) -> dict[str, ReservedPattern]:
    """The files among `paths` that other sorties have reserved, each with the reservation that includes it.

    Files that others have changed without a reservation are not included: the merge finds those conflicts.
    """
    index = ReservationIndex()
    for _, reservation in in_force([branch], changes=False):
        index.add(reservation)
    by_path = {}
    for path in paths:
        reservation = ReservedPattern(sortie, mission, "", globs.of_file(path), shared=False)
        if (other := index.find_conflict(reservation)) is not None:
            by_path[path] = other
    return by_path


def parameters(branches: Iterable[Branch]) -> dict[str, list[str]]:
    """The parameters of a statement that takes branches."""
    pairs = list(branches)
    return {"repositories": [repository for repository, _ in pairs], "branches": [branch for _, branch in pairs]}
