"""From ready to queued: at once, or where limits leave room (of a concurrency key, a mission, an agent type).

What is queued or running holds a place under each limit that it has. One control loop at a time gives places away, under
an advisory lock, so that two never both see the same one free.

A place is for work that somebody will take. It is given only where an agent serves the type, and one that is only queued
loses it again (it goes back to ready) when no agent serves its type any more, when the type's limit was lowered, and when
something of a higher priority waits for it. What runs keeps its place. Claims take no lock of this: a row that an agent is
just taking is passed over, and counts as running.

A type's limit may change while missions run; what is pending is then told anew whether it must be admitted (`regate`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterator, Sequence
from typing import NamedTuple
from uuid import UUID

from django.db import connection, transaction

from agents import queries
from agents.models import AgentType
from fleet.postgres import locks, statements
from fleet.postgres.locks import Lock

PAGE = 1_000


def admit() -> Counter[str]:
    """Queue what is ready and may start. Returns what became queued, by type."""
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions.control", "postpone"))
        cursor.execute(statements.read("missions.control", "admit"), {"limit": PAGE})
        queued = Counter(agent_type for (agent_type,) in cursor.fetchall())
    return queued + _admit_limited()


def _admit_limited() -> Counter[str]:
    served = queries.served()
    with transaction.atomic(), connection.cursor() as cursor:
        if not locks.try_lock(Lock.ADMISSION):
            return Counter()
        cursor.execute(statements.read("missions.control", "unserved"), {"served": list(served), "limit": PAGE})
        _take_back([sortie for (sortie,) in cursor.fetchall()], why="no agent serves its type")
        cursor.execute(statements.read("missions.control", "over_limit"))
        _take_back([sortie for (sortie,) in cursor.fetchall()], why="its agent type's limit")
        contenders = _contenders(served)
        granted = [one for one in contenders if one.queued]
        kept = set(choose(contenders, freed=granted))
        taken = _take_back([one.sortie for one in granted if one.sortie not in kept], why="something more urgent waits")
        chosen = choose(
            [one for one in contenders if not one.queued], freed=[one for one in granted if one.sortie in taken]
        )
        if not chosen:
            return Counter()
        cursor.execute(statements.read("missions.control", "admit_these"), {"ids": chosen})
        return Counter(agent_type for (agent_type,) in cursor.fetchall())


def _take_back(sorties: Sequence[UUID], *, why: str) -> set[UUID]:
    """Queued → ready; returns those that were still queued."""
    if not sorties:
        return set()
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions.control", "take_back"), {"ids": list(sorties), "why": why})
        return {sortie for (sortie,) in cursor.fetchall()}


def startable(types: Collection[str]) -> list[UUID]:
    """What would be admitted if agents served these types, and these alone."""
    contenders = _contenders(types)
    ready = {one.sortie for one in contenders if not one.queued}
    chosen = choose(contenders, freed=[one for one in contenders if one.queued])
    return [sortie for sortie in chosen if sortie in ready]


def regate() -> int:
    """Have pending sorties be admitted where they are under a limit now, and no others; returns how many changed."""
    changed = 0
    with connection.cursor() as cursor:
        while True:
            cursor.execute(statements.read("missions.control", "regate"), {"limit": PAGE})
            page = int(cursor.rowcount)
            changed += page
            if page < PAGE:
                return changed


class Limits:
    """The limits of agent types as they stood at the last look, which is what tells that one has changed."""

    def __init__(self) -> None:
        self._seen: dict[str, int] | None = None

    def hold(self) -> None:
        """Regate where a limit has changed since the last look; at the first look too."""
        now = dict(AgentType.objects.values_list("name", "at_once"))
        if now != self._seen:
            regate()
            self._seen = now


class Contender(NamedTuple):
    """A sortie that wants a place, or has one that it may lose; with the room that is left under its key, its mission and its
    type (None: no limit)."""

    sortie: UUID
    agent_type: str
    mission: UUID
    key: str | None
    queued: bool
    of_key: int | None
    of_mission: int | None
    of_type: int | None

    def limits(self) -> Iterator[tuple[tuple[str, Hashable], int]]:
        """Each limit that it is under, and the room that is left there."""
        for limit, room in (
            (("key", self.key), self.of_key),
            (("mission", self.mission), self.of_mission),
            (("type", self.agent_type), self.of_type),
        ):
            if room is not None:
                yield limit, room


def _contenders(served: Collection[str]) -> list[Contender]:
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions.control", "limited"), {"served": list(served), "limit": PAGE})
        return [Contender(*row) for row in cursor.fetchall()]


def choose(contenders: Sequence[Contender], *, freed: Sequence[Contender] = ()) -> list[UUID]:
    """Those that fit, in the order given: each takes one place under its key, its mission and its type. `freed`: whose
    places count as room."""
    room: dict[tuple[str, Hashable], int] = {}
    for one in contenders:
        for limit, left in one.limits():
            room.setdefault(limit, left)
    for one in freed:
        for limit, _ in one.limits():
            room[limit] = room.get(limit, 0) + 1
    chosen = []
    for one in contenders:
        limits = [limit for limit, _ in one.limits()]
        if all(room[limit] > 0 for limit in limits):
            for limit in limits:
                room[limit] -= 1
            chosen.append(one.sortie)
    return chosen
