"""The inputs of a mission: how a plan declares them, and what a launch gives for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from fleet import values
from missions.plan.faults import Faults, Path, listed, quoted
from missions.plan.specs import InputSpec, InputType, Plan
from missions.plan.values import Json

_IS: dict[InputType, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}
_ALSO = {"yes": True, "no": False, "1": True, "0": False}


def declared(*, data: Mapping[str, Any], path: Path, broken: Collection[Path], faults: Faults) -> dict[str, InputSpec]:
    """The inputs that a plan declares. `data` has passed the schema, but for the `broken` parts, which are left out."""
    specs: dict[str, InputSpec] = {}
    variables: dict[str, str] = {}
    for name, one in data.items():
        if not isinstance(one, dict):
            continue
        spec = InputSpec(
            name=name,
            type=one.get("type", "string"),
            required=one.get("required", False),
            has_default="default" in one,
            default=one.get("default"),
            description=one.get("description", ""),
            enum=tuple(one.get("enum", ())),
        )
        # Where the type itself is wrong nobody can say what fits it.
        is_right: Callable[[Any], bool] = (lambda _: True) if (*path, name, "type") in broken else _IS[spec.type]
        for index, value in enumerate(spec.enum):
            if value is not None and not is_right(value):
                fault = f"{_shown(value)} is not of the type {spec.type}."
                faults.add((*path, name, "enum", index), fault, "Change the value or the type.")
        if spec.has_default and not is_right(spec.default):
            fault = f"{_shown(spec.default)} is not of the type {spec.type}."
            faults.add((*path, name, "default"), fault, "Change the default or the type, or put a text in quotes.")
        elif spec.has_default and spec.enum and spec.default not in spec.enum:
            fault = f"{_shown(spec.default)} is none of {listed([_shown(value) for value in spec.enum])}."
            faults.add((*path, name, "default"), fault, "Choose one of them.")
        if spec.has_default and spec.required:
            fault = "An input with a default is never missing, so it cannot be required."
            faults.add((*path, name, "required"), fault, "Remove one of the two.")
        if (other := variables.setdefault(name.upper(), name)) != name:
            fault = f"{quoted(name)} and {quoted(other)} would both be the variable FLEET_INPUT_{name.upper()}."
            faults.add((*path, name), fault, "Rename one of them.")
        specs[name] = spec
    return specs


def bind(*, plan: Plan, given: Mapping[str, Json]) -> dict[str, Json]:
    """The value of every input that the plan declares. PlanError tells all that is wrong with what was given.

    A text for an input of another type (from a command line) is read as that type, an array or object as JSON.
    """
    faults = Faults()
    for name in given:
        if name not in plan.inputs:
            fix = faults.suggestion(str(name), plan.inputs) or "This plan declares no inputs."
            faults.add(("inputs", str(name)), f"{quoted(name)} is not an input of this plan.", fix)
    bound: dict[str, Json] = {}
    for name, spec in plan.inputs.items():
        path = ("inputs", name)
        if name not in given:
            if spec.required:
                fix = f"Give it: --param {name}=… {spec.description}".strip()
                faults.add(path, "This input is required and was not given.", fix)
            bound[name] = spec.default
            continue
        try:
            bound[name] = _read(spec, given[name])
        except ValueError as error:
            faults.add(path, str(error), spec.description)
    faults.check()
    return bound


def _read(spec: InputSpec, value: Json) -> Json:
    if isinstance(value, str) and spec.type != "string":
        value = _parsed(spec.type, value)
    try:
        values.check(value)
    except values.Unacceptable as fault:
        raise ValueError(fault.sentence) from None
    if not _IS[spec.type](value):
        raise ValueError(f"{_shown(value)} is not of the type {spec.type}.")
    if spec.enum and value not in spec.enum:
        raise ValueError(f"{_shown(value)} is none of {listed([_shown(one) for one in spec.enum])}.")
    return value


def _parsed(kind: InputType, text: str) -> Json:
    if kind == "boolean" and text.lower() in _ALSO:
        return _ALSO[text.lower()]
    try:
        return values.parse(text.lower() if kind == "boolean" else text)  # type: ignore[no-any-return]
    except values.Unacceptable as fault:
        raise ValueError(fault.sentence) from None
    except ValueError:
        raise ValueError(f"{quoted(text)} is not of the type {kind}.") from None


def _shown(value: Json) -> str:
    """A text in quotes; anything else as JSON without them, so that 3 and "3" are told apart."""
    return quoted(value) if isinstance(value, str) else quoted(json.dumps(value, default=str))[1:-1]
