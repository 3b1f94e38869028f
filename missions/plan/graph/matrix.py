"""The combinations of a matrix, and the keys of the sorties that they make."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from missions.plan.faults import Faults, Path, listed, quoted
from missions.plan.values import Json

MAX_KEY = 200  # characters of a sortie's key, and of a concurrency key; as wide as their columns
MAX_SHAPES = 64  # different sets of names that the patterns of `exclude` give


def combinations(
    *, matrix: Mapping[str, Any], path: Path, limit: int, faults: Faults, entire: bool = True
) -> list[dict[str, Json]]:
    """Each combination of the axes in order, the last axis fastest, without `exclude`, then those of `include`.

    None stands for what could not be read. Not `entire`: of a matrix of which parts are left out, which may have names
    and values that are not seen here.
    """
    axes = {name: [value for value in given if value is not None] for name, given in _axes(matrix).items()}
    axes = {name: given for name, given in axes.items() if given}
    include, exclude = matrix.get("include", []), matrix.get("exclude", [])
    count = math.prod(len(values) for values in axes.values()) if axes else 0
    if count + len(include) > limit:
        fault = f"The matrix comes to {count + len(include):,} sorties; {limit:,} are allowed."
        faults.add(path, fault, "Give it fewer values, or split the plan.")
        return []
    left = list(itertools.product(*axes.values())) if axes else []
    if exclude:
        left = _without(left, exclude, (*path, "exclude"), axes, faults, entire)
    made: list[dict[str, Json]] = [dict(zip(axes, values, strict=True)) for values in left]
    names = list(axes) or list(next(filter(None, include), ()))
    known = set(names)
    for index, extra in enumerate(include):
        faults.deadline.check()
        if extra is None:
            continue
        if extra.keys() != known:
            if not entire:
                continue
            fault = f"This combination has {_names(extra)}; the matrix has {_names(names)}."
            faults.add((*path, "include", index), fault, "Give a value for every name, and no other.")
        else:
            made.append({name: extra[name] for name in names})
    if not made and entire:
        faults.add(path, "Nothing of the matrix is left.", "Give it at least one combination.")
    return made


def values(*, matrix: Mapping[str, Any], combinations: Sequence[Mapping[str, Json]]) -> dict[str, list[Json]]:
    """The names of a matrix, each with its different values in these combinations."""
    found: dict[str, dict[str, Json]] = {name: {} for name in _axes(matrix)}
    for combination in combinations:
        for name, value in combination.items():
            found.setdefault(name, {}).setdefault(_text(value), value)
    return {name: list(different.values()) for name, different in found.items()}


def _axes(matrix: Mapping[str, Any]) -> dict[str, Any]:
    return {name: given for name, given in matrix.items() if name not in ("include", "exclude")}


def key(*, name: str, combination: Mapping[str, Json]) -> str:
    """name[python=3.11,os=linux]"""
    if not combination:
        return name
    return f"{name}[{','.join(f'{axis}={_text(value)}' for axis, value in combination.items())}]"


def _text(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _names(names: Iterable[str]) -> str:
    """Ten of them, so that a fault of a list of thousands stays a sentence."""
    ordered = sorted(name[:100] for name in names)
    return listed([*ordered[:10], *([f"{len(ordered) - 10:,} more"] if len(ordered) > 10 else [])])


def _without(
    made: Sequence[tuple[Json, ...]],
    patterns: Sequence[Mapping[str, Json] | None],
    path: Path,
    axes: Mapping[str, Any],
    faults: Faults,
    entire: bool,
) -> list[tuple[Json, ...]]:
    """The combinations that no pattern names. Patterns that give the same names are looked up by their values together, so a
    combination is compared as often as there are different sets of names, and not with each pattern."""
    place = {name: index for index, name in enumerate(axes)}
    first: dict[
        tuple[int, ...], dict[Any, int]
    ] = {}  # by the places of its names and their values: the first such pattern
    judged: list[int] = []
    for index, pattern in enumerate(patterns):
        faults.deadline.check()
        if pattern is None:
            continue
        unknown = next((name for name in pattern if name not in place), None)
        if unknown is not None and entire:
            fix = faults.suggestion(unknown, axes) or "Name one of its axes."
            faults.add((*path, index, unknown), f"{quoted(unknown)} is not a name of this matrix.", fix)
            continue
        places = tuple(sorted(place[name] for name in pattern if name in place))
        names = list(axes)
        values = tuple(pattern[names[at]] for at in places)
        first.setdefault(places, {}).setdefault(values[0] if len(values) == 1 else values, index)
        judged.append(index)
    if len(first) > MAX_SHAPES:
        fault = f"The patterns give {len(first):,} different sets of names; {MAX_SHAPES} are allowed."
        faults.add(path, fault, "Give the same names in more of them.")
        return list(made)
    lookups = [(itemgetter(*places) if places else lambda values: (), found) for places, found in first.items()]
    left, used = [], set()
    for combination in made:
        faults.deadline.check()
        hits = [found[values] for pick, found in lookups if (values := pick(combination)) in found]
        if hits:
            used.add(min(hits))
        else:
            left.append(combination)
    for index in judged if entire else ():
        if index not in used:
            faults.add((*path, index), "This leaves out nothing.", "Remove it, or name values that the matrix has.")
    return left
