"""Secrets among a plan's environment variables: `env: {TOKEN: {value: …, secret: true}}`.

Their values stand in the plan's text, which is kept as it was given. Whoever shows it to people shows `masked`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from fleet.observability.redactor import HIDDEN, SHORTEST, Redactor
from missions.plan.document import parsing
from missions.plan.faults import Advice, Faults, Path, PlanError, dotted

WITHHELD = "This plan holds secrets that cannot be hidden in its text, so it is not shown."


def value_of(given: Any) -> Any:
    """The value of a variable, written with or without a mark."""
    return given.get("value") if isinstance(given, Mapping) else given


def is_marked(given: Any) -> bool:
    return isinstance(given, Mapping) and given.get("secret") is True


def warnings(data: Mapping[str, Any]) -> tuple[Advice, ...]:
    """A warning for each secret that is too short to be masked. The length of a templated value is unknown."""
    return tuple(
        Advice(
            where=dotted(path),
            text=f"This secret has fewer than {SHORTEST} characters, so it is not masked in output, errors and results.",
            fix="Use a longer one.",
        )
        for path, value in _found(data)
        if len(value) < SHORTEST and "{{" not in value
    )


def masked(text: str) -> str:
    """A plan's text with its secrets hidden, for people to read; where that cannot be done, a sentence instead."""
    found = _secrets_of(text)
    if not found:
        return text  # so is what cannot be read: no plan that was launched is that
    try:
        ranges = sorted(set(_ranges(yaml.compose(text, Loader=yaml.CSafeLoader))), reverse=True)
    except yaml.YAMLError:
        return WITHHELD
    shown = text
    for begin, end in ranges:
        shown = f'{shown[:begin]}"{HIDDEN}"{shown[end:]}'
    shown = Redactor(found).text(shown)
    left = _secrets_of(shown)
    return WITHHELD if left is None or set(found) & set(left) else shown


def masked_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The same of a sortie's part of the plan, as it is stored."""
    marked = set(spec.get("secret_env", ()))
    env = {name: HIDDEN if name in marked else value for name, value in spec.get("env", {}).items()}
    return {**spec, "env": env} if env else dict(spec)


def _secrets_of(text: str) -> list[str] | None:
    faults = Faults()
    try:
        data = parsing.read(text=text, max_bytes=len(text) * 4 + 1, faults=faults).data
    except PlanError:
        return None
    return [value for _, value in _found(data)]


def _found(data: Any) -> Iterator[tuple[Path, str]]:
    """The path and the value of each marked variable, in `defaults` and in every sortie."""
    if not isinstance(data, Mapping):
        return
    sorties = data.get("sorties")
    places: list[tuple[Path, Any]] = [(("defaults",), data.get("defaults"))]
    places += [(("sorties", name), one) for name, one in sorties.items()] if isinstance(sorties, Mapping) else []
    for path, place in places:
        env = place.get("env") if isinstance(place, Mapping) else None
        for name, given in env.items() if isinstance(env, Mapping) else ():
            if is_marked(given):
                yield (*path, "env", name), str(value_of(given))


def _ranges(root: yaml.Node | None) -> Iterator[tuple[int, int]]:
    """Where in the text the marked values stand, however they are written."""
    sorties = _part(root, "sorties")
    places = [
        _part(root, "defaults"),
        *(one for _, one in (sorties.value if isinstance(sorties, yaml.MappingNode) else ())),
    ]
    for place in places:
        env = _part(place, "env")
        for _, given in env.value if isinstance(env, yaml.MappingNode) else ():
            mark, value = _part(given, "secret"), _part(given, "value")
            if isinstance(mark, yaml.ScalarNode) and mark.value.lower() == "true" and value is not None:
                yield value.start_mark.index, value.end_mark.index


def _part(node: yaml.Node | None, name: str) -> yaml.Node | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for key, value in pairs if isinstance(key, yaml.ScalarNode) and key.value == name), None)
