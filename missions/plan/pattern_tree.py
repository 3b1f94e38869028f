"""A mapping keyed by patterns that finds those that overlap a given one without comparing all of them.

It is a tree of folders: each pattern is stored at the folder that it begins with. Only patterns at the folders above
and below that of another pattern can overlap it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from missions.plan import globs
from missions.plan.globs import Pattern

V = TypeVar("V")


@dataclass(slots=True)
class _Folder(Generic[V]):
    folders: dict[str, _Folder[V]] = field(default_factory=dict)
    values: dict[Pattern, V] = field(default_factory=dict)


class PatternTree(Generic[V]):
    """Patterns with values. `new` makes the value of a new pattern."""

    def __init__(self, new: Callable[[], V]) -> None:
        self._new = new
        self._root: _Folder[V] = _Folder()

    def value(self, pattern: Pattern) -> V:
        """The value of a pattern, which is added if it is new."""
        folder = self._root
        for name in pattern.folder:
            folder = folder.folders.setdefault(name, _Folder())
        if pattern not in folder.values:
            folder.values[pattern] = self._new()
        return folder.values[pattern]

    def overlapping(self, pattern: Pattern) -> Iterator[tuple[Pattern, V]]:
        """The patterns that overlap this one, with their values; lazily, since a comparison takes microseconds."""
        for folder in self._near(pattern):
            for other, value in folder.values.items():
                if globs.overlap(other, pattern):
                    yield other, value

    def _near(self, pattern: Pattern) -> Iterator[_Folder[V]]:
        folder = self._root
        for name in pattern.folder:
            yield folder
            if name not in folder.folders:
                return
            folder = folder.folders[name]
        pending = [folder]
        while pending:
            folder = pending.pop()
            yield folder
            pending += folder.folders.values()
