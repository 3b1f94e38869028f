"""The combinations of a matrix, and the keys of the sorties that they make."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from missions.plan.faults import Faults, Path, listed, quoted
from missions.plan.values import Json

MAX_KEY = 200  # characters of a sortie's key, and of a concurrency key; as wide as their columns


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
    made = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())] if axes else []
    for index, pattern in enumerate(exclude):
        if pattern is not None:
            made = _without(made, pattern, (*path, "exclude", index), axes, faults, entire)
    names = list(axes) or list(next(filter(None, include), ()))
    for index, extra in enumerate(include):
        if extra is None:
            continue
        if set(extra) != set(names):
            if not entire:
                continue
            fault = f"This combination has {listed(sorted(extra))}; the matrix has {listed(sorted(names))}."
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


def _without(
    made: list[dict[str, Json]],
    pattern: Mapping[str, Json],
    path: Path,
    axes: Mapping[str, Any],
    faults: Faults,
    entire: bool,
) -> list[dict[str, Json]]:
    if not entire:
        return [one for one in made if not all(one.get(name, value) == value for name, value in pattern.items())]
    for name in pattern:
        if name not in axes:
            fix = faults.suggestion(name, axes) or "Name one of its axes."
            faults.add((*path, name), f"{quoted(name)} is not a name of this matrix.", fix)
            return made
    left = [one for one in made if not all(one[name] == value for name, value in pattern.items())]
    if len(left) == len(made):
        faults.add(path, "This leaves out nothing.", "Remove it, or name values that the matrix has.")
    return left
