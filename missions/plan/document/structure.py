"""Validates a plan against schema.json, and turns each violation into a sentence with a fix.

In the schema, `title` names what a value should be ("a duration"), and `x-fix` says what to write instead.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path as FilePath
from typing import Any

import jsonschema_rs

from missions.plan.document.source import Source
from missions.plan.problems import MAX_PROBLEMS, Path, Problems, listed, quoted

SCHEMA: dict[str, Any] = json.loads((FilePath(__file__).parent / "schema.json").read_text(encoding="utf-8"))

# Keys that are not implemented yet. They are refused, because ignoring them would promise something that does not
# happen.
UNSUPPORTED_KEYS = frozenset({
    "approval", "budget", "checkpoint", "decompose", "decomposition", "isolation", "mail", "merge", "model", "notify",
    "on_success", "permissions", "reservations", "resources", "schedule", "secrets", "skills", "tokens", "tools", "webhooks",
})  # fmt: skip
WORK = ("run", "call", "prompt", "driver")


def _without_names(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_names(value) for key, value in node.items() if key != "propertyNames"}
    return [_without_names(value) for value in node] if isinstance(node, list) else node


# Each error of the validator holds a copy of its instance, and for `propertyNames` that is the mapping: ten thousand
# bad names would be ten thousand copies of the plan. `_bad_names` checks names instead.
_VALIDATOR = jsonschema_rs.Draft202012Validator(_without_names(SCHEMA))
_KINDS = {
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}


def check(*, source: Source, problems: Problems) -> set[Path]:
    """Add a problem for each violation of the schema, and remove the invalid parts from the data.

    Returns the paths of the invalid parts. The rest can then be checked further. Keys are removed from mappings. In
    lists, invalid and duplicate items become None, so that the others keep their indexes. A value that could not be
    read already has a problem and gets no other.
    """
    data = source.data
    broken: set[Path] = set()
    duplicates: set[Path] = set()
    for count, error in enumerate(_VALIDATOR.iter_errors(data)):
        problems.deadline.check()
        if count == MAX_PROBLEMS:
            # The other invalid parts are still in the data, so it cannot be checked further.
            problems.fail(incomplete=True)
        path: Path = tuple(error.instance_path)
        steps: list[str | int] = list(error.schema_path)
        kind, value = error.kind.name, error.kind.value
        node = _node(steps[:-1])
        if kind == "additionalProperties":
            for key in value:
                _unknown_key((*path, key), list(node.get("properties", ())), problems)
                broken.add((*path, key))
        elif kind == "oneOf":
            work = [key for key in WORK if isinstance(error.instance, dict) and key in error.instance]
            if work:
                message = f"It has {listed(work)}, but a sortie does one thing."
                problems.add((*path, work[1]), message, "Keep one of them.")
            elif source.is_read(path):
                problems.add(path, "It has nothing to do.", "Give it run, call or prompt.")
        elif kind == "uniqueItems":
            items: Any = error.instance
            repeated = _repeated(items)
            item = quoted(items[repeated[0]]) if repeated else "A value"
            problems.add(path, f"{item} appears twice.", _fix(steps, kind, value, error, problems))
            duplicates.update((*path, index) for index in repeated)
        else:
            if source.is_read(path):
                problems.add(
                    path, _sentence(kind, value, error.instance, node), _fix(steps, kind, value, error, problems)
                )
            broken.add(path)
    for path, name, node in _bad_names(data):
        problems.add((*path, name), f"{quoted(name)} is not {node['title']}.", node["x-fix"])
    _prune(data, broken | duplicates)
    return broken


def _bad_names(data: Any) -> Iterator[tuple[Path, str, dict[str, Any]]]:
    """Keys that `propertyNames` of the schema refuses: the path of the mapping, the key, and the schema's rule."""
    for path, mapping, rule in _mappings_with_names(data):
        if not isinstance(mapping, dict):
            continue
        node, pattern = _RULES[rule]
        for name in mapping:
            if len(name) > node["maxLength"] or not pattern.search(name):
                yield path, name, node


def _mappings_with_names(data: Any) -> Iterator[tuple[Path, Any, str]]:
    """The mappings whose keys are names, each with the key of its rule in _RULES."""
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
                yield from (((*path, "matrix", key, index), pattern, "word") for index, pattern in enumerate(patterns))


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
        container = data
        try:
            for part in keys:
                container = container[part]
        except (KeyError, TypeError):
            continue  # removed already, with a part that contained it
        if isinstance(last, int) and isinstance(container, list):
            container[last] = None
        elif isinstance(container, dict):
            container.pop(last, None)


def _unknown_key(path: Path, known: list[str], problems: Problems) -> None:
    key = str(path[-1])
    if key == "<<":
        return  # `parsing` has added the problem
    if key in UNSUPPORTED_KEYS and key not in known:
        problems.add(path, f"The key {quoted(key)} is not available yet.", "Remove it.")
    else:
        fix = problems.did_you_mean(key, known) or f"The keys allowed here are {listed(sorted(known))}."
        problems.add(path, f"The key {quoted(key)} is not known.", fix)


def _sentence(kind: str, value: Any, instance: Any, node: dict[str, Any]) -> str:
    if kind == "type":
        allowed = listed([_KINDS[name] for name in value], joint="or")
        return f"It is {describe(instance)}, but must be {allowed}."
    if kind == "enum":
        return f"{quoted(instance)} is not an allowed value."
    if kind == "required":
        return f"The key {quoted(value)} is missing."
    if kind == "pattern":
        if isinstance(instance, str) and not instance.strip():
            return "It is empty."
        return f"{quoted(instance)} is not {node.get('title', 'a valid value')}."
    if kind in ("minLength", "minItems", "minProperties"):
        return "It is empty."
    if kind in ("maxLength", "maxItems", "maxProperties"):
        unit = {"maxLength": "characters", "maxItems": "items", "maxProperties": "keys"}[kind]
        return f"It has {len(instance):,} {unit}; at most {value:,} are allowed."
    if kind in ("minimum", "maximum", "exclusiveMinimum"):
        limit = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "above"}[kind]
        return f"It is {instance}, but must be {limit} {value}."
    return f"It is not valid here ({kind})."


def _fix(steps: list[str | int], kind: str, value: Any, error: Any, problems: Problems) -> str:
    if kind == "enum":
        options = [str(option) for option in value]
        return problems.did_you_mean(str(error.instance), options) or f"Use {listed(options, joint='or')}."
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
    return f"Use {listed([_KINDS[name] for name in value], joint='or')}." if kind == "type" else "See docs/plan.md."


def _node(steps: list[str | int]) -> dict[str, Any]:
    node: Any = SCHEMA
    for step in steps:
        try:
            node = node[step]
        except (KeyError, IndexError, TypeError):
            return {}
    return node if isinstance(node, dict) else {}


def describe(value: Any) -> str:
    """A value in words: the number 3, a list."""
    match value:
        case None:
            return "empty"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {value}"
        case str():
            return f"the string {quoted(value)}"
        case list():
            return "a list"
        case _:
            return "a mapping"


def _repeated(items: list[Any]) -> list[int]:
    """The indexes of items that equal an earlier one."""
    seen: set[str] = set()
    indexes: list[int] = []
    for index, item in enumerate(items):
        text = json.dumps(item, sort_keys=True)
        if text in seen:
            indexes.append(index)
        seen.add(text)
    return indexes
