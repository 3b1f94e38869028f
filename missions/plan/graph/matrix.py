"""The combinations of a matrix, and the keys of their sorties."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from missions.plan.problems import Path, Problems, listed, quoted
from missions.plan.values import Json

MAX_KEY = 200  # characters of a sortie's key, and of a concurrency key; as wide as their columns
MAX_AXIS_SETS = 64  # different sets of axes that the patterns of `exclude` use


def combinations(
    *, matrix: Mapping[str, Any], path: Path, limit: int, problems: Problems, complete: bool = True
) -> list[dict[str, Json]]:
    """The combinations of the axes (the last axis changes fastest) without those in `exclude`, then those in `include`.

    Invalid values are None. Not `complete`: invalid parts of the matrix were removed, so it may have other axes and
    values.
    """
    axes = {name: [value for value in axis if value is not None] for name, axis in _axes(matrix).items()}
    axes = {name: axis for name, axis in axes.items() if axis}
    include, exclude = matrix.get("include", []), matrix.get("exclude", [])
    count = math.prod(len(axis) for axis in axes.values()) if axes else 0
    if count + len(include) > limit:
        message = f"The matrix makes {count + len(include):,} sorties; at most {limit:,} are allowed."
        problems.add(path, message, "Give it fewer values, or split the plan.")
        return []
    product = list(itertools.product(*axes.values())) if axes else []
    if exclude:
        product = _without_excluded(product, exclude, (*path, "exclude"), axes, problems, complete)
    result: list[dict[str, Json]] = [dict(zip(axes, values, strict=True)) for values in product]
    names = list(axes) or list(next(filter(None, include), ()))
    name_set = set(names)
    for index, extra in enumerate(include):
        problems.deadline.check()
        if extra is None:
            continue
        if extra.keys() != name_set:
            if not complete:
                continue
            message = f"This combination has {_names(extra)}; the matrix has {_names(names)}."
            problems.add((*path, "include", index), message, "Give a value for every axis, and for no other name.")
        else:
            result.append({name: extra[name] for name in names})
    if not result and complete:
        problems.add(path, "The matrix has no combinations.", "Leave at least one combination.")
    return result


def values(*, matrix: Mapping[str, Any], combinations: Sequence[Mapping[str, Json]]) -> dict[str, list[Json]]:
    """The axes of a matrix, each with its distinct values in these combinations."""
    distinct: dict[str, dict[str, Json]] = {name: {} for name in _axes(matrix)}
    for combination in combinations:
        for name, value in combination.items():
            distinct.setdefault(name, {}).setdefault(_text(value), value)
    return {name: list(by_text.values()) for name, by_text in distinct.items()}


def _axes(matrix: Mapping[str, Any]) -> dict[str, Any]:
    return {name: axis for name, axis in matrix.items() if name not in ("include", "exclude")}


def key(*, name: str, combination: Mapping[str, Json]) -> str:
    """name[python=3.11,os=linux]"""
    if not combination:
        return name
    return f"{name}[{','.join(f'{axis}={_text(value)}' for axis, value in combination.items())}]"


def _text(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _names(names: Iterable[str]) -> str:
    """At most ten names, so that the message stays short for a list of thousands."""
    ordered = sorted(name[:100] for name in names)
    return listed([*ordered[:10], *([f"{len(ordered) - 10:,} more"] if len(ordered) > 10 else [])])


def _without_excluded(
    combinations: Sequence[tuple[Json, ...]],
    patterns: Sequence[Mapping[str, Json] | None],
    path: Path,
    axes: Mapping[str, Any],
    problems: Problems,
    complete: bool,
) -> list[tuple[Json, ...]]:
    """The combinations that match no pattern.

    Patterns with the same set of axes share one lookup table, so a combination is looked up once for each such set and
    not compared with each pattern.
    """
    position = {name: index for index, name in enumerate(axes)}
    # By the positions of a pattern's axes and then by its values: the index of the first such pattern.
    tables: dict[tuple[int, ...], dict[Any, int]] = {}
    valid: list[int] = []
    for index, pattern in enumerate(patterns):
        problems.deadline.check()
        if pattern is None:
            continue
        unknown = next((name for name in pattern if name not in position), None)
        if unknown is not None and complete:
            fix = problems.suggestion(unknown, axes) or "Name one of its axes."
            problems.add((*path, index, unknown), f"{quoted(unknown)} is not an axis of this matrix.", fix)
            continue
        positions = tuple(sorted(position[name] for name in pattern if name in position))
        names = list(axes)
        values = tuple(pattern[names[axis]] for axis in positions)
        tables.setdefault(positions, {}).setdefault(values[0] if len(values) == 1 else values, index)
        valid.append(index)
    if len(tables) > MAX_AXIS_SETS:
        message = f"The patterns use {len(tables):,} different sets of axes; at most {MAX_AXIS_SETS} are allowed."
        problems.add(path, message, "Use the same axes in more of them.")
        return list(combinations)
    lookups = [
        (itemgetter(*positions) if positions else lambda values: (), table) for positions, table in tables.items()
    ]
    entries, used = [], set()
    for combination in combinations:
        problems.deadline.check()
        matches = [table[values] for pick, table in lookups if (values := pick(combination)) in table]
        if matches:
            used.add(min(matches))
        else:
            entries.append(combination)
    for index in valid if complete else ():
        if index not in used:
            problems.add((*path, index), "This pattern excludes nothing.", "Remove it, or use values of the matrix.")
    return entries
