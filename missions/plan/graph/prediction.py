"""Predicted conflicts: sorties that reserve the same files although neither needs the other.

They run one after the other, in the order of the plan. If the order matters, the plan should state it as a need.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from missions.plan import globs
from missions.plan.pattern_tree import PatternTree
from missions.plan.specs import SortieSpec

MAX_PREDICTED = 20
MAX_COMPARISONS = 100_000  # of a pattern with one that it overlaps


class PredictedConflict(NamedTuple):
    """Two sorties that reserve the same files: the one that goes first, the other, and its pattern."""

    first: SortieSpec
    second: SortieSpec
    pattern: str


@dataclass(slots=True)
class _ReservingSorties:
    """The sorties that reserve one pattern: a bit for each, by its place in the plan."""

    exclusive: int = 0
    shared: int = 0


def predict(sorties: Sequence[SortieSpec]) -> list[PredictedConflict]:
    """The predicted conflicts of a plan, at most MAX_PREDICTED."""
    reserving = [sortie for sortie in sorties if sortie.touches or sortie.reads]
    if len(reserving) < 2:
        return []
    places = {sortie.key: place for place, sortie in enumerate(reserving)}
    upstream = _upstream(sorties, places)
    tree: PatternTree[_ReservingSorties] = PatternTree(_ReservingSorties)
    conflicts: list[PredictedConflict] = []
    comparisons = 0
    for place, sortie in enumerate(reserving):
        others: dict[int, str] = {}
        for pattern, shared in _patterns(sortie):
            for _, holders in tree.overlapping(globs.parse(pattern)):
                comparisons += 1
                bits = holders.exclusive if shared else holders.exclusive | holders.shared
                for other in _places(bits & ~upstream[sortie.key]):
                    if not upstream[reserving[other].key] >> place & 1:
                        others.setdefault(other, pattern)
                if comparisons > MAX_COMPARISONS or len(others) > MAX_PREDICTED:
                    break
        conflicts += [PredictedConflict(reserving[other], sortie, pattern) for other, pattern in sorted(others.items())]
        if comparisons > MAX_COMPARISONS or len(conflicts) >= MAX_PREDICTED:
            return conflicts[:MAX_PREDICTED]
        for pattern, shared in _patterns(sortie):
            holders = tree.value(globs.parse(pattern))
            if shared:
                holders.shared |= 1 << place
            else:
                holders.exclusive |= 1 << place
    return conflicts


def _patterns(sortie: SortieSpec) -> Iterator[tuple[str, bool]]:
    """Each pattern, and whether it is shared."""
    yield from ((pattern, False) for pattern in sortie.touches)
    yield from ((pattern, True) for pattern in sortie.reads)


def _places(bits: int) -> Iterator[int]:
    for _ in range(MAX_PREDICTED + 1):
        if not bits:
            return
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


def _upstream(sorties: Sequence[SortieSpec], places: Mapping[str, int]) -> dict[str, int]:
    """For each sortie, the reserving ones that it needs directly or indirectly, as bits. The graph has no cycles."""
    needs = {sortie.key: sortie.needs for sortie in sorties}
    bits: dict[str, int] = {}
    for start in needs:
        pending = [start]
        while pending:
            key = pending[-1]
            missing = [need for need in needs[key] if need in needs and need not in bits]
            if key in bits or not missing:
                pending.pop()
                if key not in bits:
                    bits[key] = 0
                    for need in needs[key]:
                        bits[key] |= bits.get(need, 0) | (1 << places[need] if need in places else 0)
            else:
                pending += missing
    return bits
