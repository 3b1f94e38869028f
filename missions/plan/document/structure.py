"""Holds a plan to schema.json, and puts each violation into a sentence with its fix.

In the schema `title` says what a text should be ("a duration"), and `x-fix` what to write instead.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path as FilePath
from typing import Any

import jsonschema_rs

from missions.plan.document.source import Source
from missions.plan.faults import MAX_FAULTS, Faults, Path, listed, quoted

SCHEMA: dict[str, Any] = json.loads((FilePath(__file__).parent / "schema.json").read_text(encoding="utf-8"))

# Their effect is not built yet. A key that is passed over in silence would promise what nobody keeps.
NOT_YET = frozenset(
    {
        *("approval", "budget", "checkpoint", "decompose", "decomposition", "isolation", "mail", "merge", "model"),
        *("notify", "on_success", "permissions", "reservations", "resources", "schedule", "secrets", "skills"),
        *("tokens", "tools", "touches", "webhooks", "workspace"),
    }
)
WORK = ("run", "call", "prompt", "driver")


def _without_names(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_names(value) for key, value in node.items() if key != "propertyNames"}
    return [_without_names(value) for value in node] if isinstance(node, list) else node


# Each error of the validator holds a copy of what it is about, and those of names are all about the mapping: ten thousand
# bad names would be ten thousand copies of the plan. `_names` looks at them instead.
_VALIDATOR = jsonschema_rs.Draft202012Validator(_without_names(SCHEMA))
_KINDS = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}


def check(*, source: Source, faults: Faults) -> set[Path]:
    """Adds a fault for each place where the data is not as the schema says, and takes these parts out of the data, so
    that the rest can be judged. Returns their paths.

    Of a mapping the key is taken out. In a list None stands for what was taken out, so that the rest keep their numbers;
    so it does for what the list has already. What could not be read has had its fault.
    """
    data = source.data
    broken: set[Path] = set()
    doubled: set[Path] = set()
    for count, error in enumerate(_VALIDATOR.iter_errors(data)):
        faults.deadline.check()
        if count == MAX_FAULTS:
            faults.fail(at_least=True)  # what is broken beyond these is still in the data, which cannot be judged so
        path: Path = tuple(error.instance_path)
        steps: list[str | int] = list(error.schema_path)
        kind, value = error.kind.name, error.kind.value
        node = _node(steps[:-1])
        if kind == "additionalProperties":
            for key in value:
                _unknown_key((*path, key), list(node.get("properties", ())), faults)
                broken.add((*path, key))
        elif kind == "oneOf":
            given = [key for key in WORK if isinstance(error.instance, dict) and key in error.instance]
            if given:
                faults.add((*path, given[1]), f"It has {listed(given)}.", "Leave one of them: a sortie does one thing.")
            elif source.is_read(path):
                faults.add(path, "It says nothing to do.", "Give it run, call or prompt.")
        elif kind == "uniqueItems":
            there: Any = error.instance
            twice = _doubled(there)
            shown = quoted(there[twice[0]]) if twice else "A value"
            faults.add(path, f"{shown} is given twice.", _fix(steps, kind, value, error, faults))
            doubled.update((*path, index) for index in twice)
        else:
            if source.is_read(path):
                faults.add(path, _sentence(kind, value, error.instance, node), _fix(steps, kind, value, error, faults))
            broken.add(path)
    for path, name, node in _bad_names(data):
        faults.add((*path, name), f"{quoted(name)} is not {node['title']}.", node["x-fix"])
    _prune(data, broken | doubled)
    return broken


def _bad_names(data: Any) -> Iterator[tuple[Path, str, dict[str, Any]]]:
    """Keys that `propertyNames` of the schema refuses: where, which, and what the schema says of them."""
    for path, mapping, rule in _named(data):
        if not isinstance(mapping, dict):
            continue
        node, pattern = _RULES[rule]
        for name in mapping:
            if len(name) > node["maxLength"] or not pattern.search(name):
                yield path, name, node


def _named(data: Any) -> Iterator[tuple[Path, Any, str]]:
    """The mappings whose keys are names, each with the rule that it has in the schema's $defs."""
    if not isinstance(data, dict):
        return
    yield ("inputs",), data.get("inputs"), "word"
    yield ("sorties",), data.get("sorties"), "name"
    owners: list[tuple[Path, Any]] = [(("defaults",), data.get("defaults"))]
    if isinstance(sorties := data.get("sorties"), dict):
        owners += [(("sorties", name), sortie) for name, sortie in sorties.items()]
    for path, owner in owners:
        if not isinstance(owner, dict):
            continue
        yield (*path, "env"), owner.get("env"), "env"
        if path[0] == "defaults" or not isinstance(matrix := owner.get("matrix"), dict):
            continue
        yield (*path, "matrix"), matrix, "word"
        for key in ("include", "exclude"):
            if isinstance(patterns := matrix.get(key), list):
                yield from (((*path, "matrix", key, index), one, "word") for index, one in enumerate(patterns))


def _rule(node: dict[str, Any]) -> tuple[dict[str, Any], re.Pattern[str]]:
    return node, re.compile(node["pattern"].replace("$", r"\Z"))


_RULES = {
    "word": _rule(SCHEMA["$defs"]["word"]),
    "name": _rule(SCHEMA["$defs"]["name"]),
    "env": _rule(SCHEMA["$defs"]["env"]["propertyNames"]),
}


def _prune(data: Any, paths: Iterable[Path]) -> None:
    for path in paths:
        item = next((count for count, part in enumerate(path, 1) if isinstance(part, int)), len(path))
        *keys, last = path[:item] or ("",)
        here = data
        try:
            for part in keys:
                here = here[part]
        except (KeyError, TypeError):
            continue  # it went with a part that holds it
        if isinstance(last, int) and isinstance(here, list):
            here[last] = None
        elif isinstance(here, dict):
            here.pop(last, None)


def _unknown_key(path: Path, known: list[str], faults: Faults) -> None:
    key = str(path[-1])
    if key == "<<":
        return  # the reader has said it
    if key in NOT_YET and key not in known:
        faults.add(path, f"The key {quoted(key)} is not available yet.", "Remove it.")
    else:
        fix = faults.resembling(key, known) or f"The keys here are {listed(sorted(known))}."
        faults.add(path, f"The key {quoted(key)} is not known.", fix)


def _sentence(kind: str, value: Any, instance: Any, node: dict[str, Any]) -> str:
    if kind == "type":
        wanted = listed([_KINDS[name] for name in value], joint="or")
        return f"It is {described(instance)} and must be {wanted}."
    if kind == "enum":
        return f"{quoted(instance)} is none of {listed([str(option) for option in value], joint='or')}."
    if kind == "required":
        return f"The key {quoted(value)} is missing."
    if kind == "pattern":
        if isinstance(instance, str) and not instance.strip():
            return "It is empty."
        return f"{quoted(instance)} is not {node.get('title', 'what can stand here')}."
    if kind in ("minLength", "minItems", "minProperties"):
        return "It is empty."
    if kind in ("maxLength", "maxItems", "maxProperties"):
        of = {"maxLength": "characters", "maxItems": "items", "maxProperties": "keys"}[kind]
        return f"It has {len(instance):,} {of}; {value:,} are allowed."
    if kind in ("minimum", "maximum", "exclusiveMinimum"):
        limit = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "above"}[kind]
        return f"It is {instance} and must be {limit} {value}."
    return f"It is not valid here ({kind})."


def _fix(steps: list[str | int], kind: str, value: Any, error: Any, faults: Faults) -> str:
    if kind == "enum":
        near = faults.resembling(str(error.instance), [str(option) for option in value])
        return near or f"Write {' or '.join(str(option) for option in value)}."
    if kind == "required":
        node = _node(["properties", value]) if not error.instance_path else {}
        return str(node.get("description", f"Add {value}."))
    if kind == "type" and value == ["boolean"]:
        return "Write true or false."
    if kind == "type" and value == ["string"] and isinstance(error.instance, bool | int | float):
        return "Put it in quotes."
    for end in range(len(steps) - 1, 0, -1):
        if fix := _node(steps[:end]).get("x-fix"):
            return str(fix)
    return f"Give {listed([_KINDS[name] for name in value], joint='or')}." if kind == "type" else "See docs/plan.md."


def _node(steps: list[str | int]) -> dict[str, Any]:
    node: Any = SCHEMA
    for step in steps:
        try:
            node = node[step]
        except (KeyError, IndexError, TypeError):
            return {}
    return node if isinstance(node, dict) else {}


def described(value: Any) -> str:
    """What a value is, in words: the number 3, a list."""
    match value:
        case None:
            return "empty"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {value}"
        case str():
            return f"the text {quoted(value)}"
        case list():
            return "a list"
        case _:
            return "a mapping"


def _doubled(items: list[Any]) -> list[int]:
    """The indexes of those that stand further up already."""
    seen: set[str] = set()
    found: list[int] = []
    for index, item in enumerate(items):
        text = json.dumps(item, sort_keys=True)
        if text in seen:
            found.append(index)
        seen.add(text)
    return found
