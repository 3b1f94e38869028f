"""The reservations of a branch, indexed by their patterns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from missions.plan.globs import Pattern
from missions.plan.pattern_tree import PatternTree


class ReservedPattern(NamedTuple):
    """A pattern that a sortie has reserved or requests."""

    sortie: UUID
    mission: UUID
    key: str
    pattern: Pattern
    shared: bool

    def name_for(self, mission: UUID) -> str:
        """The sortie's name in a text for readers who may be allowed to see only this mission."""
        return self.key if self.mission == mission else "a sortie of another mission"


@dataclass(slots=True)
class _Holders:
    """The sorties that have reserved a pattern."""

    exclusive: dict[UUID, ReservedPattern] = field(default_factory=dict)
    shared: dict[UUID, ReservedPattern] = field(default_factory=dict)


class ReservationIndex:
    """Finds the reservations that conflict with another one."""

    def __init__(self) -> None:
        self._tree: PatternTree[_Holders] = PatternTree(_Holders)

    def add(self, reservation: ReservedPattern) -> None:
        """Add a reservation."""
        holders = self._tree.value(reservation.pattern)
        (holders.shared if reservation.shared else holders.exclusive)[reservation.sortie] = reservation

    def find_conflict(self, reservation: ReservedPattern) -> ReservedPattern | None:
        """A reservation of another sortie that conflicts with this one; None if there is none.

        Two shared reservations do not conflict.
        """
        for _, holders in self._tree.overlapping(reservation.pattern):
            for group in (holders.exclusive,) if reservation.shared else (holders.exclusive, holders.shared):
                for other in group.values():
                    if other.sortie != reservation.sortie:
                        return other
        return None
