"""Decides which contenders of one admission pass get the files that they reserve.

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
from missions.workspaces.reservation_index import ReservationIndex, ReservedPattern
from missions.workspaces.reservations import Branch

LAST_FOLDER = "\U0010ffff"  # sorts after every folder
Order = tuple[int, int, UUID]  # -priority, turn, id: the smallest is first


class WaitingReservation(NamedTuple):
    """A reservation of a ready sortie that does not contend for a place now."""

    order: Order
    branch: Branch
    reservation: ReservedPattern


class BlockingReservation(NamedTuple):
    """The reservation that blocks a sortie. It is in force, unless its own sortie is ahead and also waits (`waits`)."""

    reservation: ReservedPattern
    waits: bool

    def reason(self, mission: UUID) -> str:
        """In words, after "waits for"."""
        relation = "is ahead of it and needs" if self.waits else "has reserved"
        return f"{self.reservation.name_for(mission)}, which {relation} {self.reservation.pattern}"


@dataclass(slots=True, kw_only=True)
class ReservationSnapshot:
    """The reservations that matter to a pass. `requests` has those of the contenders."""

    requests: dict[UUID, list[tuple[Branch, ReservedPattern]]] = field(default_factory=dict)
    in_force: list[tuple[Branch, ReservedPattern]] = field(default_factory=list)
    waiting: list[WaitingReservation] = field(default_factory=list)

    def contest(self, *, freed: Collection[UUID] = ()) -> Contest:
        """A contest in which the reservations of the `freed` sorties are not in force."""
        return Contest(self, freed=freed)


def snapshot(*, contenders: Sequence[UUID], last: Order, served: Collection[str]) -> ReservationSnapshot:
    """Read the reservations on the branches of these contenders, each of which reserves files.

    `last` is the order of the last contender: ready sorties after it do not matter.
    """
    requests = defaultdict(list)
    for branch, reservation in reservations.planned(contenders):
        requests[reservation.sortie].append((branch, reservation))
    branches = {branch for pairs in requests.values() for branch, _ in pairs}
    minus_priority, last_turn, last_sortie = last
    with connection.cursor() as cursor:
        cursor.execute(
            statements.read("missions.control", "waiting_before"),
            {
                **_folders(requests),
                "served": list(served),
                "priority": minus_priority,
                "turn": last_turn,
                "last": last_sortie,
            },
        )
        waiting = [
            WaitingReservation(
                (-priority, turn, sortie),
                (repository, branch),
                ReservedPattern(sortie, mission, key, globs.parse(pattern), shared),
            )
            for repository, branch, sortie, mission, key, pattern, shared, priority, turn in cursor.fetchall()
            if sortie not in requests
        ]
    return ReservationSnapshot(requests=requests, in_force=reservations.in_force(branches), waiting=waiting)


def _folders(requests: Mapping[UUID, Sequence[tuple[Branch, ReservedPattern]]]) -> dict[str, list[str]]:
    """The folders of the patterns that these may overlap: their own, all folders above, and all below.

    As parameters of sql/waiting_before.sql, one list per column.
    """
    above: set[tuple[str, str, str]] = set()  # repository, branch, folder
    below: set[tuple[str, str, str, str]] = set()  # repository, branch, low, high
    for branch, reservation in (pair for pairs in requests.values() for pair in pairs):
        names, folder = reservation.pattern.folder, reservation.pattern.folder_key
        above |= {(*branch, "/".join(names[:depth])) for depth in range(len(names) + 1)}
        # 0 follows / in ASCII, so names between "folder/" and "folder0" are below the folder.
        below.add((*branch, f"{folder}/", f"{folder}0") if folder else (*branch, "", LAST_FOLDER))
    return {
        "repositories": [repository for repository, _, _ in above],
        "branches": [branch for _, branch, _ in above],
        "folders": [folder for _, _, folder in above],
        "lower_repositories": [repository for repository, _, _, _ in below],
        "lower_branches": [branch for _, branch, _, _ in below],
        "low": [low for _, _, low, _ in below],
        "high": [high for _, _, _, high in below],
    }


class Contest:
    """One pass through the contenders in their order: call `find_blocker` for each, then call `grant` or `wait`."""

    def __init__(self, snapshot: ReservationSnapshot, *, freed: Collection[UUID]) -> None:
        self._requests = snapshot.requests
        self._in_force: dict[Branch, ReservationIndex] = defaultdict(ReservationIndex)
        self._ahead: dict[Branch, ReservationIndex] = defaultdict(ReservationIndex)
        self._waiting = deque(snapshot.waiting)
        for branch, reservation in snapshot.in_force:
            if reservation.sortie not in freed:
                self._in_force[branch].add(reservation)

    def find_blocker(self, sortie: UUID, *, order: Order, queued: bool) -> BlockingReservation | None:
        """The reservation that blocks the sortie, if any. A queued sortie is blocked only by reservations in force."""
        requests = self._requests.get(sortie, ())
        if requests and not queued:
            while self._waiting and self._waiting[0].order < order:
                earlier = self._waiting.popleft()
                self._ahead[earlier.branch].add(earlier.reservation)
        for branch, reservation in requests:
            if (other := self._in_force[branch].find_conflict(reservation)) is not None:
                return BlockingReservation(other, waits=False)
            if not queued and (other := self._ahead[branch].find_conflict(reservation)) is not None:
                return BlockingReservation(other, waits=True)
        return None

    def grant(self, sortie: UUID) -> None:
        """Give the sortie its files."""
        for branch, reservation in self._requests.get(sortie, ()):
            self._in_force[branch].add(reservation)

    def wait(self, sortie: UUID) -> None:
        """Let the sortie wait: later ones that overlap it do not overtake it."""
        for branch, reservation in self._requests.get(sortie, ()):
            self._ahead[branch].add(reservation)
