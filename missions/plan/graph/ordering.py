"""Finds cycles among needs, and an order in which each sortie comes after all that it needs (a topological sort)."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence


def cycles(needs: Mapping[str, Sequence[str]]) -> list[tuple[str, ...]]:
    """Disjoint cycles, at least one if there are any: (a, b, a) if a needs b and b needs a.

    Names without an entry in `needs` are ignored.
    """
    cycles: list[tuple[str, ...]] = []
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
                finished = path.pop()
                done.add(finished)
                del position[finished]
            elif name in position:
                # The members are done, so that cycles have no names in common.
                start_of_cycle = position[name]
                cycles.append((*path[start_of_cycle:], name))
                for member in path[start_of_cycle:]:
                    done.add(member)
                    del position[member]
                del path[start_of_cycle:], steps[start_of_cycle:]
            elif name not in done and name in needs:
                position[name] = len(path)
                path.append(name)
                steps.append(iter(needs[name]))
    return cycles


def topological_order(needs: Sequence[Sequence[int]]) -> list[int]:
    """The indexes of `needs`, each after those that it needs, otherwise lowest first. There must be no cycle."""
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
        index = heapq.heappop(free)
        order.append(index)
        for dependent in dependents[index]:
            missing[dependent] -= 1
            if not missing[dependent]:
                heapq.heappush(free, dependent)
    return order
