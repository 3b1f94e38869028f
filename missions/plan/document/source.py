"""The data of a plan, and the line and column of each part in its text."""

from __future__ import annotations

from typing import Any

from missions.plan.problems import Path

_COLUMN_BITS = 24


def place_of(line: int, column: int) -> int:
    """Line and column packed into one number, because a plan has one for each value."""
    return line << _COLUMN_BITS | column


def line_of(place: int) -> int:
    return place >> _COLUMN_BITS


class Source:
    """The data of a plan and the place of each part.

    `places`: by the id() of a container, the place of each of its keys or items. `data` keeps the containers alive.
    `unread`: the id() of a container and a key in it whose value could not be read and has been replaced.
    """

    def __init__(self) -> None:
        self.data: Any = None
        self.places: dict[int, dict[Any, int]] = {}
        self.unread: set[tuple[int, Any]] = set()

    def is_read(self, path: Path) -> bool:
        """Whether the value at `path` is the one in the text, so that further checks of it make sense."""
        container = self.data
        for part in path[:-1]:
            try:
                container = container[part]
            except (KeyError, IndexError, TypeError):
                return True
        return not path or (id(container), path[-1]) not in self.unread

    def locate(self, path: Path) -> tuple[int, int] | None:
        """Line and column, from 1, of the deepest part of `path` that exists."""
        place, container = place_of(1, 1) if self.places else None, self.data
        for part in path:
            place = self.places.get(id(container), {}).get(part, place)
            try:
                container = container[part]
            except (KeyError, IndexError, TypeError):
                break
        return None if place is None else (line_of(place), place & ((1 << _COLUMN_BITS) - 1))
