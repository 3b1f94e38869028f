"""Admission: queues ready sorties, as soon as their limits and the reservations of other sorties allow it.

Concurrency keys, missions and agent types have limits. A queued or running sortie occupies a place under each limit
that applies to it, and has the files that its plan reserves. One control loop at a time assigns places and files, under
an advisory lock, so that none is assigned twice.

Places are for work that an agent will claim, so a sortie gets one only if an agent serves its type. A queued sortie
loses its place (it returns to ready) if no agent serves its type any more, if the type's limit was lowered, or if a
sortie with a higher priority waits for the place. Running sorties keep theirs. Claims do not take the lock: rows that
an agent is claiming are skipped, and count as running.

If a type's limit changes while missions run, `update_gated` updates which pending sorties must be admitted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from django.db import connection, transaction

from agents import queries
from agents.models import AgentType
from fleet.postgres import locks, statements
from fleet.postgres.locks import Lock
from missions.control import file_contest
from missions.control.file_contest import BlockingReservation, Contest, Order

PAGE = 1_000


def admit() -> Counter[str]:
    """Queue the ready sorties that may start; returns how many became queued, by type."""
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions.control", "postpone"))
        cursor.execute(statements.read("missions.control", "admit"), {"limit": PAGE})
        queued = Counter(agent_type for (agent_type,) in cursor.fetchall())
    return queued + _admit_limited()


def _admit_limited() -> Counter[str]:
    served = queries.served_types()
    with transaction.atomic(), connection.cursor() as cursor:
        if not locks.try_lock(Lock.ADMISSION):
            return Counter()
        cursor.execute(statements.read("missions.control", "unserved"), {"served": list(served), "limit": PAGE})
        _take_back([sortie for (sortie,) in cursor.fetchall()], why="no agent serves its type")
        cursor.execute(statements.read("missions.control", "over_limit"))
        _take_back([sortie for (sortie,) in cursor.fetchall()], why="the limit of its agent type was lowered")
        contenders = _contenders(served)
        reservations = _reservations(contenders, served)
        queued = [contender for contender in contenders if contender.queued]
        taken_back: set[UUID] = set()
        if queued:
            fitting = set(choose(contenders, freed=queued, contest=reservations.contest(freed=_ids(queued))))
            displaced = [contender.sortie for contender in queued if contender.sortie not in fitting]
            taken_back = _take_back(displaced, why="a more urgent sortie is waiting")
        blocked: dict[UUID, BlockingReservation] = {}
        admitted = choose(
            [contender for contender in contenders if not contender.queued],
            freed=[contender for contender in queued if contender.sortie in taken_back],
            contest=reservations.contest(freed=taken_back),
            blocked=blocked,
        )
        _block(contenders, blocked)
        if not admitted:
            return Counter()
        cursor.execute(statements.read("missions.control", "admit_chosen"), {"ids": admitted})
        return Counter(agent_type for (agent_type,) in cursor.fetchall())


def _take_back(sorties: Sequence[UUID], *, why: str) -> set[UUID]:
    """Return queued sorties to ready; returns those that were still queued."""
    if not sorties:
        return set()
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions.control", "take_back"), {"ids": list(sorties), "why": why})
        return {sortie for (sortie,) in cursor.fetchall()}


def _block(contenders: Sequence[Contender], blockers: Mapping[UUID, BlockingReservation]) -> None:
    """Record whose reservation each of these sorties waits for. It contends again once that reservation ends."""
    if not blockers:
        return
    missions = {contender.sortie: contender.mission for contender in contenders}
    with connection.cursor() as cursor:
        cursor.execute(
            statements.read("missions.control", "block"),
            {
                "sorties": list(blockers),
                "by": [blocker.reservation.sortie for blocker in blockers.values()],
                "reasons": [blocker.reason(missions[sortie]) for sortie, blocker in blockers.items()],
            },
        )


def startable(types: Collection[str]) -> list[UUID]:
    """The sorties that would be admitted if agents served exactly these types."""
    contenders = _contenders(types)
    queued = [contender for contender in contenders if contender.queued]
    ready = {contender.sortie for contender in contenders if not contender.queued}
    contest = _reservations(contenders, types).contest(freed=_ids(queued))
    return [sortie for sortie in choose(contenders, freed=queued, contest=contest) if sortie in ready]


def update_gated() -> int:
    """Update which pending sorties must be admitted, by the current limits; returns how many changed."""
    changed = 0
    with connection.cursor() as cursor:
        while True:
            cursor.execute(statements.read("missions.control", "update_gated"), {"limit": PAGE})
            page = int(cursor.rowcount)
            changed += page
            if page < PAGE:
                return changed


class LimitWatch:
    """Remembers the limits of agent types, to notice changes."""

    def __init__(self) -> None:
        self._limits: dict[str, int] | None = None

    def update_gated_if_changed(self) -> None:
        """Call `update_gated` if a limit has changed since the last call, and at the first call."""
        current = dict(AgentType.objects.values_list("name", "max_running"))
        if current != self._limits:
            update_gated()
            self._limits = current


class Contender(NamedTuple):
    """A sortie that needs a place, or has one that it may lose.

    `key_room`, `mission_room` and `type_room` are the places left under its limits (None: no limit). `reserves`: its
    plan reserves files.
    """

    sortie: UUID
    agent_type: str
    mission: UUID
    key: str | None
    queued: bool
    key_room: int | None
    mission_room: int | None
    type_room: int | None
    reserves: bool = False
    priority: int = 0
    turn: int = 0

    @property
    def order(self) -> Order:
        return (-self.priority, self.turn, self.sortie)

    def limits(self) -> Iterator[tuple[tuple[str, Hashable], int]]:
        """Each limit that applies to the sortie, and the places left under it."""
        for limit, places_left in (
            (("key", self.key), self.key_room),
            (("mission", self.mission), self.mission_room),
            (("type", self.agent_type), self.type_room),
        ):
            if places_left is not None:
                yield limit, places_left


def _contenders(served: Collection[str]) -> list[Contender]:
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions.control", "contenders"), {"served": list(served), "limit": PAGE})
        return [Contender(*row) for row in cursor.fetchall()]


def _reservations(contenders: Sequence[Contender], served: Collection[str]) -> file_contest.ReservationSnapshot:
    candidates = [contender for contender in contenders if contender.reserves]
    if not candidates:
        return file_contest.ReservationSnapshot()
    last = max(contender.order for contender in candidates)
    return file_contest.snapshot(contenders=_ids(candidates), last=last, served=served)


def _ids(contenders: Iterable[Contender]) -> list[UUID]:
    return [contender.sortie for contender in contenders]


def choose(
    contenders: Sequence[Contender],
    *,
    freed: Sequence[Contender] = (),
    contest: Contest | None = None,
    blocked: dict[UUID, BlockingReservation] | None = None,
) -> list[UUID]:
    """The contenders that fit, in order: each takes a place under each of its limits, and the files it reserves.

    The places that the `freed` contenders occupy count as free. Ready contenders that have to wait for a reservation
    are added to `blocked`.
    """
    contest = contest or file_contest.ReservationSnapshot().contest()
    places_left: dict[tuple[str, Hashable], int] = {}
    for contender in contenders:
        for limit, places in contender.limits():
            places_left.setdefault(limit, places)
    for contender in freed:
        for limit, _ in contender.limits():
            places_left[limit] = places_left.get(limit, 0) + 1
    admitted = []
    for contender in contenders:
        limits = [limit for limit, _ in contender.limits()]
        blocker = contest.find_blocker(contender.sortie, order=contender.order, queued=contender.queued)
        if blocker is None and all(places_left[limit] > 0 for limit in limits):
            for limit in limits:
                places_left[limit] -= 1
            contest.grant(contender.sortie)
            admitted.append(contender.sortie)
        elif not contender.queued:
            contest.wait(contender.sortie)
            if blocker is not None and blocked is not None:
                blocked[contender.sortie] = blocker
    return admitted
