"""The inputs of a mission: their declarations in the plan, and their values at launch."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from fleet import values
from missions.plan.problems import Path, Problems, listed, quoted
from missions.plan.specs import InputSpec, InputType, Plan
from missions.plan.values import Json

_HAS_TYPE: dict[InputType, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}
_BOOLEANS = {"yes": True, "no": False, "1": True, "0": False}  # besides true and false, on a command line


def parse_declarations(
    *, data: Mapping[str, Any], path: Path, broken: Collection[Path], problems: Problems
) -> dict[str, InputSpec]:
    """Parse the declarations of a plan's inputs. `data` satisfies the schema; its `broken` parts have been removed."""
    specs: dict[str, InputSpec] = {}
    variables: dict[str, str] = {}
    for name, item in data.items():
        if not isinstance(item, dict):
            continue
        spec = InputSpec(
            name=name,
            type=item.get("type", "string"),
            required=item.get("required", False),
            has_default="default" in item,
            default=item.get("default"),
            description=item.get("description", ""),
            enum=tuple(item.get("enum", ())),
        )
        # If the type itself is invalid, any value is accepted.
        has_type: Callable[[Any], bool] = (lambda _: True) if (*path, name, "type") in broken else _HAS_TYPE[spec.type]
        for index, value in enumerate(spec.enum):
            if value is not None and not has_type(value):
                message = f"{_quoted(value)} is not of type {spec.type}."
                problems.add((*path, name, "enum", index), message, "Change the value or the type.")
        if spec.has_default and not has_type(spec.default):
            message = f"{_quoted(spec.default)} is not of type {spec.type}."
            problems.add(
                (*path, name, "default"), message, "Change the default or the type, or put a string in quotes."
            )
        elif spec.has_default and spec.enum and spec.default not in spec.enum:
            message = f"The default {_quoted(spec.default)} is not in enum."
            problems.add((*path, name, "default"), message, f"Use {listed(map(_quoted, spec.enum), joint='or')}.")
        if spec.has_default and spec.required:
            message = "An input with a default is never missing, so it cannot be required."
            problems.add((*path, name, "required"), message, "Remove required or default.")
        if (other := variables.setdefault(name.upper(), name)) != name:
            message = f"{quoted(name)} and {quoted(other)} would both set the variable FLEET_INPUT_{name.upper()}."
            problems.add((*path, name), message, "Rename one of them.")
        specs[name] = spec
    return specs


def bind(*, plan: Plan, params: Mapping[str, Json]) -> dict[str, Json]:
    """The value of every input that the plan declares. PlanError lists all problems of `params`.

    A string for an input of another type (from a command line) is parsed as that type, an array or object as JSON.
    """
    problems = Problems()
    for name in params:
        if name not in plan.inputs:
            fix = problems.suggestion(str(name), plan.inputs) or "This plan declares no inputs."
            problems.add(("inputs", str(name)), f"{quoted(name)} is not an input of this plan.", fix)
    bound: dict[str, Json] = {}
    for name, spec in plan.inputs.items():
        path = ("inputs", name)
        if name not in params:
            if spec.required:
                fix = f"Set it: --param {name}=… {spec.description}".strip()
                problems.add(path, "This input is required, but has no value.", fix)
            bound[name] = spec.default
            continue
        try:
            bound[name] = _convert(spec, params[name])
        except ValueError as error:
            problems.add(path, str(error), spec.description)
    problems.check()
    return bound


def _convert(spec: InputSpec, value: Json) -> Json:
    if isinstance(value, str) and spec.type != "string":
        value = _parse(spec.type, value)
    try:
        values.check(value)
    except values.Unacceptable as error:
        raise ValueError(error.sentence) from None
    if not _HAS_TYPE[spec.type](value):
        raise ValueError(f"{_quoted(value)} is not of type {spec.type}.")
    if spec.enum and value not in spec.enum:
        allowed = listed(map(_quoted, spec.enum), joint="or")
        raise ValueError(f"{_quoted(value)} is not allowed; use {allowed}.")
    return value


def _parse(input_type: InputType, text: str) -> Json:
    if input_type == "boolean" and text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    try:
        return values.parse(text.lower() if input_type == "boolean" else text)  # type: ignore[no-any-return]
    except values.Unacceptable as error:
        raise ValueError(error.sentence) from None
    except ValueError:
        raise ValueError(f"{quoted(text)} is not of type {input_type}.") from None


def _quoted(value: Json) -> str:
    """A string in quotes; anything else as JSON without quotes, so that 3 and "3" differ."""
    return quoted(value) if isinstance(value, str) else quoted(json.dumps(value, default=str))[1:-1]
