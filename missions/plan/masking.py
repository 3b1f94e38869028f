"""Secrets among a plan's environment variables: `env: {TOKEN: {value: …, secret: true}}`.

Their values stand in the plan's text, which is kept as it was given. Whoever shows it to people shows `masked`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fleet.redactor import SHORTEST, Redactor
from missions.plan import reading
from missions.plan.faults import Faults, Path, PlanError, dotted

WITHHELD = "This plan holds secrets that cannot be hidden in its text, so it is not shown."


def value_of(given: Any) -> Any:
    """The value of a variable, written with or without a mark."""
    return given.get("value") if isinstance(given, Mapping) else given


def is_marked(given: Any) -> bool:
    return isinstance(given, Mapping) and given.get("secret") is True


def warnings(data: Mapping[str, Any]) -> tuple[str, ...]:
    """A sentence for each secret of a plan that is too short to be hidden; of templates nobody can say."""
    return tuple(
        f"{dotted(path)}: This secret has fewer than {SHORTEST} characters, so it is not hidden in what the work says. "
        "Use a longer one."
        for path, value in _found(data)
        if len(value) < SHORTEST and "{{" not in value
    )


def masked(text: str) -> str:
    """A plan's text with its secrets hidden, for people to read; where that cannot be done, a sentence instead."""
    found = _secrets_of(text)
    if found is None:
        return text  # no plan that was launched is one that cannot be read
    shown = Redactor(found).text(text)
    left = _secrets_of(shown)
    hidden = {value for value in found if len(value) >= SHORTEST}
    return WITHHELD if left is None or hidden & set(left) else shown


def masked_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The same of a sortie's part of the plan, as it is stored."""
    marked = set(spec.get("secret_env", ()))
    env = {name: "[redacted]" if name in marked else value for name, value in spec.get("env", {}).items()}
    return {**spec, "env": env} if env else dict(spec)


def _secrets_of(text: str) -> list[str] | None:
    faults = Faults()
    try:
        data = reading.read(text=text, max_bytes=len(text) * 4 + 1, faults=faults).data
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
