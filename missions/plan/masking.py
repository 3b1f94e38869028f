"""Secrets among a plan's environment variables: `env: {TOKEN: {value: …, secret: true}}`.

The plan's text is stored unchanged, with their values in it. Code that shows it to people must call `masked` first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from fleet.observability.redactor import HIDDEN, MIN_LENGTH, Redactor
from missions.plan.document import parsing
from missions.plan.document.deadline import Deadline, Expired
from missions.plan.problems import Advice, Path, PlanError, Problems, dotted

WITHHELD = "This plan contains secrets that cannot be hidden in its text, so it is not shown."
MAX_SEARCHED = 100_000_000  # characters: the whole text is searched for each part of each secret


def value_of(entry: Any) -> Any:
    """The value of a variable, written as `NAME: value` or as `NAME: {value: …}`."""
    return entry.get("value") if isinstance(entry, Mapping) else entry


def is_secret(entry: Any) -> bool:
    return isinstance(entry, Mapping) and entry.get("secret") is True


def warnings(data: Mapping[str, Any]) -> tuple[Advice, ...]:
    """A warning for each secret that is too short to be masked. The length of a value with templates is unknown."""
    return tuple(
        Advice(
            where=dotted(path),
            text=f"This secret has fewer than {MIN_LENGTH} characters, so it is not masked in output, errors and results.",
            fix="Use a longer one.",
        )
        for path, value in _secrets(data)
        if len(value) < MIN_LENGTH and "{{" not in value
    )


def masked(text: str, *, max_s: float = math.inf) -> str:
    """A plan's text with its secrets hidden, for people to read.

    WITHHELD if that is impossible, takes more than about `max_s` seconds of CPU time, or has too many secrets to search
    for. A text beyond a few thousand characters takes long: see `operations.plan_reading.masked`.
    """
    try:
        return _masked(text, Deadline(max_s))
    except Expired:
        return WITHHELD


def _masked(text: str, deadline: Deadline) -> str:
    secrets = _secrets_in_text(text, deadline)
    if not secrets:
        return text  # or it cannot be parsed; but every launched plan can be
    redactor = Redactor(secrets)
    if len(redactor) * len(text) > MAX_SEARCHED:
        return WITHHELD
    try:
        ranges = sorted(set(_secret_ranges(yaml.compose(text, Loader=yaml.CSafeLoader))), reverse=True)
    except yaml.YAMLError:
        return WITHHELD
    masked_text = text
    for begin, end in ranges:
        masked_text = f'{masked_text[:begin]}"{HIDDEN}"{masked_text[end:]}'
    masked_text = redactor.text(masked_text)
    remaining = _secrets_in_text(masked_text, deadline)
    return WITHHELD if remaining is None or set(secrets) & set(remaining) else masked_text


def masked_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The stored spec of a sortie, with its secrets hidden."""
    secret_names = set(spec.get("secret_env", ()))
    env = {name: HIDDEN if name in secret_names else value for name, value in spec.get("env", {}).items()}
    return {**spec, "env": env} if env else dict(spec)


def _secrets_in_text(text: str, deadline: Deadline) -> list[str] | None:
    """The values of the secrets in a plan's text; None if it cannot be parsed."""
    problems = Problems(deadline=deadline)
    try:
        data = parsing.read(text=text, max_bytes=len(text) * 4 + 1, problems=problems).data
    except PlanError:
        return None
    return [value for _, value in _secrets(data)]


def _secrets(data: Any) -> Iterator[tuple[Path, str]]:
    """The path and the value of each secret variable, in `defaults` and in every sortie."""
    if not isinstance(data, Mapping):
        return
    sorties = data.get("sorties")
    owners: list[tuple[Path, Any]] = [(("defaults",), data.get("defaults"))]
    owners += [(("sorties", name), sortie) for name, sortie in sorties.items()] if isinstance(sorties, Mapping) else []
    for path, owner in owners:
        env = owner.get("env") if isinstance(owner, Mapping) else None
        for name, entry in env.items() if isinstance(env, Mapping) else ():
            if is_secret(entry):
                yield (*path, "env", name), str(value_of(entry))


def _secret_ranges(root: yaml.Node | None) -> Iterator[tuple[int, int]]:
    """Begin and end of each secret value in the text, as it is written there."""
    sorties = _child(root, "sorties")
    owners = [
        _child(root, "defaults"),
        *(sortie for _, sortie in (sorties.value if isinstance(sorties, yaml.MappingNode) else ())),
    ]
    for owner in owners:
        env = _child(owner, "env")
        for _, entry in env.value if isinstance(env, yaml.MappingNode) else ():
            secret, value = _child(entry, "secret"), _child(entry, "value")
            if isinstance(secret, yaml.ScalarNode) and secret.value.lower() == "true" and value is not None:
                yield value.start_mark.index, value.end_mark.index


def _child(node: yaml.Node | None, name: str) -> yaml.Node | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for key, value in pairs if isinstance(key, yaml.ScalarNode) and key.value == name), None)
