"""The data of a plan, and where in its text each part of it stands."""

from __future__ import annotations

from typing import Any

from missions.plan.faults import Path

_COLUMN_BITS = 24


def place_of(line: int, column: int) -> int:
    """Both in one number: there are as many as there are values."""
    return line << _COLUMN_BITS | column


def line_of(place: int) -> int:
    return place >> _COLUMN_BITS


class Source:
    """The data of a plan and the place of each part. `places` is by the id of a container, which `data` keeps alive.

    `unread` names, by the id of a container and a key of it, what could not be read: something else stands there.
    """

    def __init__(self) -> None:
        self.data: Any = None
        self.places: dict[int, dict[Any, int]] = {}
        self.unread: set[tuple[int, Any]] = set()

    def is_read(self, path: Path) -> bool:
        """Whether what stands at `path` is what was written there, so that more can be said of it."""
        here = self.data
        for part in path[:-1]:
            try:
                here = here[part]
            except (KeyError, IndexError, TypeError):
                return True
        return not path or (id(here), path[-1]) not in self.unread

    def locate(self, path: Path) -> tuple[int, int] | None:
        """Line and column, from 1, of the deepest part of `path` that is there."""
        place, here = place_of(1, 1) if self.places else None, self.data
        for part in path:
            known = self.places.get(id(here), {})
            place = known.get(part, place)
            try:
                here = here[part]
            except (KeyError, IndexError, TypeError):
                break
        return None if place is None else (line_of(place), place & ((1 << _COLUMN_BITS) - 1))
