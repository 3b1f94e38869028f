"""Patterns of paths, and whether two of them can name the same file.

A pattern starts at the root of the repository: `*`, `?` and `[…]` stand for characters of one name, `**` for any number
of folders. A pattern that names a folder includes everything in it; a slash at its end changes nothing. The comparison
is exact: it follows all states that both patterns can be in after the same path, as one intersects two finite automata.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TypeVar

T = TypeVar("T")
CACHED = 65_536
MAX_CHARACTER = 0x10FFFF


class AnyNumber:
    """The type of ANY: any number of characters in a name, or of names in a path."""

    text = "**"


ANY = AnyNumber()
Characters = tuple[tuple[int, int], ...]  # ranges of code points, both ends included


@dataclass(frozen=True, slots=True)
class Wildcard:
    """A part of a pattern that stands for several names, such as `*.py`."""

    text: str


@dataclass(frozen=True)
class Pattern:
    """A pattern, split at its slashes. The text parts stand for themselves."""

    parts: tuple[str | Wildcard | AnyNumber, ...]

    @cached_property
    def folder(self) -> tuple[str, ...]:
        """Its first parts, up to the first one with a wildcard."""
        for number, part in enumerate(self.parts):
            if not isinstance(part, str):
                return self.parts[:number]  # type: ignore[return-value]
        return self.parts  # type: ignore[return-value]

    @property
    def folder_key(self) -> str:
        """`folder` as text. At the root of the repository it is ""."""
        return "/".join(self.folder)

    def __str__(self) -> str:
        return "/".join(part if isinstance(part, str) else part.text for part in self.parts)


@lru_cache(CACHED)
def parse(text: str) -> Pattern:
    """The pattern that a plan or a request writes as text."""
    parts: list[str | Wildcard | AnyNumber] = []
    for part in text.removesuffix("/").split("/"):
        if part == "**":
            if not parts or parts[-1] is not ANY:
                parts.append(ANY)
        else:
            parts.append(Wildcard(part) if any(wildcard in part for wildcard in "*?[") else part)
    return Pattern(tuple(parts))


@lru_cache(CACHED)
def of_file(path: str) -> Pattern:
    """The pattern of one file, whose name may contain wildcard characters."""
    return Pattern(tuple(path.split("/")))


@lru_cache(CACHED)
def overlap(first: Pattern, second: Pattern) -> bool:
    """Whether a file exists, or could exist, that both patterns include."""
    return _intersect(_with_contents(first), _with_contents(second), _names_overlap)


def includes(pattern: Pattern, path: str) -> bool:
    """Whether the pattern includes the file."""
    return _intersect(_with_contents(pattern), tuple(path.split("/")), _names_overlap)


def _with_contents(pattern: Pattern) -> tuple[str | Wildcard | AnyNumber, ...]:
    return pattern.parts if pattern.parts[-1] is ANY else (*pattern.parts, ANY)


def _intersect(
    first: Sequence[T | AnyNumber], second: Sequence[T | AnyNumber], overlap: Callable[[T, T], bool]
) -> bool:
    """Whether a sequence exists that both patterns match.

    `overlap` says whether an element matches both of two elements of the patterns. The bits of `positions` are the
    places in `second` that can be reached together with the present place in `first`.
    """
    repeating = sum(1 << place for place, element in enumerate(second) if element is ANY)
    everywhere = (1 << len(second) + 1) - 1
    overlapping: dict[T, int] = {}
    positions = _skip(1, repeating)
    for element in first:
        if isinstance(element, AnyNumber):
            positions = everywhere & -(positions & -positions)  # this place and all after it
            continue
        if element not in overlapping:
            overlapping[element] = sum(
                1 << place
                for place, other in enumerate(second)
                if not isinstance(other, AnyNumber) and overlap(element, other)
            )
        positions = _skip((positions & repeating) | (positions & overlapping[element]) << 1, repeating)
        if not positions:
            return False
    return bool(positions >> len(second) & 1)


def _skip(positions: int, repeating: int) -> int:
    """Add the places that follow an ANY, which may stand for nothing. No two ANYs follow each other."""
    return positions | (positions & repeating) << 1


@lru_cache(CACHED)
def _names_overlap(first: str | Wildcard, second: str | Wildcard) -> bool:
    if isinstance(first, str) and isinstance(second, str):
        return first == second
    return _intersect(_characters(first), _characters(second), _characters_overlap)


def _characters_overlap(first: Characters, second: Characters) -> bool:
    return any(low <= other_high and other_low <= high for low, high in first for other_low, other_high in second)


@lru_cache(CACHED)
def _characters(name: str | Wildcard) -> tuple[Characters | AnyNumber, ...]:
    if isinstance(name, str):
        return tuple(((ord(character), ord(character)),) for character in name)
    elements: list[Characters | AnyNumber] = []
    text, place = name.text, 0
    while place < len(text):
        character = text[place]
        end = text.find("]", place + 2 + (text[place + 1 : place + 2] in ("!", "^"))) if character == "[" else -1
        if character == "*":
            if not elements or elements[-1] is not ANY:
                elements.append(ANY)
        elif character == "?":
            elements.append(((0, MAX_CHARACTER),))
        elif end > 0:
            elements.append(_bracketed(text[place + 1 : end]))
            place = end
        else:
            elements.append(((ord(character), ord(character)),))
        place += 1
    return tuple(elements)


def _bracketed(text: str) -> Characters:
    """The characters of `[…]`: single ones and ranges, or all others if it begins with `!` or `^`."""
    negated = text[0] in "!^"
    members = text[1:] if negated else text
    ranges, place = [], 0
    while place < len(members):
        is_range = members[place + 1 : place + 2] == "-" and place + 2 < len(members)
        last = members[place + 2] if is_range else members[place]
        ranges.append((ord(members[place]), ord(last)))
        place += 3 if is_range else 1
    ranges = sorted(pair for pair in ranges if pair[0] <= pair[1])
    return _others(ranges) if negated else tuple(ranges)


def _others(ranges: Sequence[tuple[int, int]]) -> Characters:
    others, begin = [], 0
    for low, high in ranges:
        if begin < low:
            others.append((begin, low - 1))
        begin = max(begin, high + 1)
    return (*others, (begin, MAX_CHARACTER)) if begin <= MAX_CHARACTER else tuple(others)
