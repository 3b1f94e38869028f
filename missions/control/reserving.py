"""Which contenders of one pass of admission may have the files that they reserve.

Each gets all of its files or none, in order. A ready sortie does not overtake an earlier one that it overlaps, even if
that one waits for something else.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from django.db import connection

from fleet.postgres import statements
from missions.plan import globs
from missions.workspaces import reservations
from missions.workspaces.reservation_index import ReservationIndex, Reserved
from missions.workspaces.reservations import Branch

LAST_FOLDER = "\U0010ffff"
Order = tuple[int, int, UUID]  # -priority, turn, id: the smallest is first


class Waiting(NamedTuple):
    """A reservation of a ready sortie that does not contend for a place now."""

    order: Order
    branch: Branch
    reserved: Reserved


class Obstacle(NamedTuple):
    """Why a sortie does not get its files: a reservation of another one, which is in force unless that one waits too."""

    reserved: Reserved
    waits: bool

    def reason(self, mission: UUID) -> str:
        """In words, after "waits for"."""
        what = "is before it and needs" if self.waits else "has reserved"
        return f"{self.reserved.name_for(mission)}, which {what} {self.reserved.pattern}"


@dataclass(slots=True, kw_only=True)
class Snapshot:
    """The reservations that matter to a pass. `wanted` has those of the contenders."""

    wanted: dict[UUID, list[tuple[Branch, Reserved]]] = field(default_factory=dict)
    in_force: list[tuple[Branch, Reserved]] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)

    def contest(self, *, freed: Collection[UUID] = ()) -> Contest:
        """A contest in which the reservations of the `freed` sorties are not in force."""
        return Contest(self, freed=freed)


def snapshot(*, contenders: Sequence[UUID], last: Order, served: Collection[str]) -> Snapshot:
    """Read what is reserved on the branches of these contenders, which have reservations.

    `last` is the order of the last one: ready sorties after it do not matter.
    """
    wanted = defaultdict(list)
    for branch, reserved in reservations.planned(contenders):
        wanted[reserved.sortie].append((branch, reserved))
    branches = {branch for pairs in wanted.values() for branch, _ in pairs}
    with connection.cursor() as cursor:
        cursor.execute(
            statements.read("missions.control", "waiting_before"),
            {**_folders(wanted), "served": list(served), **dict(zip(("priority", "turn", "last"), last, strict=True))},
        )
        waiting = [
            Waiting(
                (-priority, turn, sortie),
                (repository, branch),
                Reserved(sortie, mission, key, globs.parse(pattern), shared),
            )
            for repository, branch, sortie, mission, key, pattern, shared, priority, turn in cursor.fetchall()
            if sortie not in wanted
        ]
    return Snapshot(wanted=wanted, in_force=reservations.in_force(branches), waiting=waiting)


def _folders(wanted: Mapping[UUID, Sequence[tuple[Branch, Reserved]]]) -> dict[str, list[str]]:
    """Where patterns are that these may overlap: in their folders and all above them, and below them."""
    above: set[tuple[str, ...]] = set()
    below: set[tuple[str, ...]] = set()
    for branch, reserved in (pair for pairs in wanted.values() for pair in pairs):
        names, folder = reserved.pattern.folder, reserved.pattern.folder_key
        above |= {(*branch, "/".join(names[:depth])) for depth in range(len(names) + 1)}
        below.add(
            (*branch, f"{folder}/", f"{folder}0") if folder else (*branch, "", LAST_FOLDER)
        )  # 0 follows / in ASCII
    columns = ("repositories", "branches", "folders"), ("lower_repositories", "lower_branches", "low", "high")
    return {
        column: [row[number] for row in rows]
        for names, rows in zip(columns, (above, below), strict=True)
        for number, column in enumerate(names)
    }


class Contest:
    """One walk through the contenders in their order: ask for the obstacle of each, then `grant` or `wait`."""

    def __init__(self, snapshot: Snapshot, *, freed: Collection[UUID]) -> None:
        self._wanted = snapshot.wanted
        self._in_force: dict[Branch, ReservationIndex] = defaultdict(ReservationIndex)
        self._before: dict[Branch, ReservationIndex] = defaultdict(ReservationIndex)
        self._waiting = deque(snapshot.waiting)
        for branch, reserved in snapshot.in_force:
            if reserved.sortie not in freed:
                self._in_force[branch].add(reserved)

    def obstacle(self, sortie: UUID, *, order: Order, queued: bool) -> Obstacle | None:
        """What keeps the sortie from its files. A queued one only has to give way to what is in force."""
        wanted = self._wanted.get(sortie, ())
        if wanted and not queued:
            while self._waiting and self._waiting[0].order < order:
                earlier = self._waiting.popleft()
                self._before[earlier.branch].add(earlier.reserved)
        for branch, reserved in wanted:
            if (other := self._in_force[branch].obstacle(reserved)) is not None:
                return Obstacle(other, waits=False)
            if not queued and (other := self._before[branch].obstacle(reserved)) is not None:
                return Obstacle(other, waits=True)
        return None

    def grant(self, sortie: UUID) -> None:
        """The sortie gets its files."""
        for branch, reserved in self._wanted.get(sortie, ()):
            self._in_force[branch].add(reserved)

    def wait(self, sortie: UUID) -> None:
        """The sortie waits, and later ones do not overtake it."""
        for branch, reserved in self._wanted.get(sortie, ()):
            self._before[branch].add(reserved)
