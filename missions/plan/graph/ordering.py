"""Cycles among needs, and the order in which each sortie comes after all that it needs."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence


def cycles(needs: Mapping[str, Sequence[str]]) -> list[tuple[str, ...]]:
    """Cycles that have no name in common, at least one where there is any: (a, b, a) where a needs b and b needs a.

    Names that are needed and have no entry of their own are passed over.
    """
    found: list[tuple[str, ...]] = []
    done: set[str] = set()
    for start in needs:
        if start in done:
            continue
        path = [start]
        position = {start: 0}
        steps = [iter(needs[start])]
        while path:
            name = next(steps[-1], None)
            if name is None:
                steps.pop()
                done.add(left := path.pop())
                del position[left]
            elif name in position:
                # The names of the cycle are done with, so that the next cycle found is another one.
                at = position[name]
                found.append((*path[at:], name))
                for left in path[at:]:
                    done.add(left)
                    del position[left]
                del path[at:], steps[at:]
            elif name not in done and name in needs:
                position[name] = len(path)
                path.append(name)
                steps.append(iter(needs[name]))
    return found


def ordered(needs: Sequence[Sequence[int]]) -> list[int]:
    """The indexes of `needs`, each after those that it needs, else lowest first. There must be no cycle."""
    if all(other < index for index, others in enumerate(needs) for other in others):
        return list(range(len(needs)))
    dependents: list[list[int]] = [[] for _ in needs]
    missing = [len(others) for others in needs]
    for index, others in enumerate(needs):
        for other in others:
            dependents[other].append(index)
    free = [index for index, count in enumerate(missing) if not count]
    order: list[int] = []
    while free:
        order.append(index := heapq.heappop(free))
        for dependent in dependents[index]:
            missing[dependent] -= 1
            if not missing[dependent]:
                heapq.heappush(free, dependent)
    return order
