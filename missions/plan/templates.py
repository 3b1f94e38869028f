"""Templates: a reference such as {{ needs.lint.result.files[0] }} in a value of the plan is replaced by its value.

A reference is only a path: names after dots, [n] for an item of a list, ["a name"] for a name with other characters.
Nothing is computed or called. A value that consists of one reference keeps the type of the referenced value. Within a
longer string, a string is inserted as it is and anything else as JSON. `\\{{` is a literal {{.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet import errors
from missions.plan.problems import listed, quoted
from missions.plan.values import Json

ROOTS = frozenset({"needs", "inputs", "matrix", "mission", "sortie"})
MAX_CHARS = 1_000_000  # that the templates of one value may insert

_PIECE = re.compile(r"\\\{\{|\{\{(.*?)\}\}|\{\{", re.DOTALL)
_STEP = re.compile(r'\.([A-Za-z0-9_][A-Za-z0-9_-]*)|\[([0-9]{1,6})\]|\["([^"\\{}]+)"\]')
_REFERENCE = re.compile(rf"\s*([A-Za-z_]+)((?:{_STEP.pattern})*)\s*")
_SAFE_IN_SHELL = re.compile(r"[A-Za-z0-9._/+:@%=,-]+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One {{ … }}: the root of its path, and the steps from there."""

    root: str
    steps: tuple[str | int, ...]

    def __str__(self) -> str:
        return _path_text(self.root, self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceScope:
    """The values of references. `needs` holds results by the name of the need; for a matrix, a list of results."""

    needs: Mapping[str, Json] = field(default_factory=dict)
    inputs: Mapping[str, Json] = field(default_factory=dict)
    matrix: Mapping[str, Json] = field(default_factory=dict)
    mission: Mapping[str, Json] = field(default_factory=dict)
    sortie: Mapping[str, Json] = field(default_factory=dict)


def render(*, value: Json, scope: ReferenceScope) -> Json:
    """The value with each reference replaced. Raises errors.Invalid if a path does not exist, and says which do."""
    remaining = MAX_CHARS

    def resolve(reference: Reference) -> Json:
        return _lookup(reference, scope)

    def spend(text: str) -> str:
        nonlocal remaining
        remaining -= len(text)
        if remaining < 0:
            message = f"The templates of this value insert more than {MAX_CHARS:,} characters."
            raise errors.Invalid(message, hint="Read the result from the folder $FLEET_NEEDS instead.")
        return text

    return _walk(value, lambda text: _replace(text, resolve, spend=spend))


def render_text(*, text: str, scope: ReferenceScope) -> str:
    """The text with each reference replaced: `render`, always as text."""
    return as_text(render(value=text, scope=scope))


def fill_matrix(*, value: Json, matrix: Mapping[str, Json]) -> Json:
    """The value with references to `matrix` replaced; all others stay for `render`."""
    scope = ReferenceScope(matrix=matrix)

    def resolve(reference: Reference) -> Json:
        return _lookup(reference, scope) if reference.root == "matrix" else _KEEP

    return _walk(value, lambda text: _replace(text, resolve, unescape=False))


def shell_text(*, text: str, matrix: Mapping[str, Json]) -> str:
    """Text for a shell: only references to `matrix` are replaced, and only by values without shell characters.

    ValueError names a value with shell characters. Quoting it would not help, because the text may already have quotes
    around it.
    """

    def resolve(reference: Reference) -> Json:
        value = _lookup(reference, ReferenceScope(matrix=matrix))
        if not is_safe_in_shell(value):
            raise ValueError(f"The value {quoted(value)} of {reference} has characters that the shell interprets.")
        return value

    return as_text(_replace(text, resolve))


def is_safe_in_shell(value: Json) -> bool:
    """Whether a value has no character that a shell interprets."""
    return _SAFE_IN_SHELL.fullmatch(as_text(value)) is not None


def references(text: str) -> Iterator[Reference]:
    """The distinct references in a text. Raises ValueError, with a message for the user, if one is invalid."""
    if "{{" not in text:
        return
    seen: set[str] = set()
    for match in _PIECE.finditer(text):
        if (source := match.group()) != "\\{{" and source not in seen:
            seen.add(source)
            yield _parse(match)


def texts(value: Json, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Each string within a value that has a template, with its path."""
    if isinstance(value, str):
        if "{{" in value:
            yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from texts(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from texts(item, (*path, index))


_KEEP: Any = object()


def _parse(piece: re.Match[str]) -> Reference:
    if piece.group() == "{{":
        raise ValueError('"{{" is not closed by "}}".')
    match = _REFERENCE.fullmatch(piece[1])
    if not match:
        raise ValueError(f"{quoted(piece.group())} is not a valid reference.")
    steps = tuple(int(step[2]) if step[2] is not None else (step[1] or step[3]) for step in _STEP.finditer(match[2]))
    return Reference(root=match[1], steps=steps)


def _walk(value: Json, change: Callable[[str], Json]) -> Json:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _walk(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_walk(item, change) for item in value]
    return value


def _replace(
    text: str,
    resolve: Callable[[Reference], Json],
    *,
    unescape: bool = True,
    spend: Callable[[str], str] = lambda text: text,
) -> Json:
    if "{{" not in text:
        return text
    single = _PIECE.fullmatch(text)
    if single and single[1] is not None and "{{" not in single[1]:
        value = resolve(_parse(single))
        if value is _KEEP:
            return text
        return spend(value) if isinstance(value, str) else value

    def replacement(match: re.Match[str]) -> str:
        if match.group() == "\\{{":
            return "{{" if unescape else match.group()
        value = resolve(_parse(match))
        return match.group() if value is _KEEP else spend(as_text(value))

    return _PIECE.sub(replacement, text)


def as_text(value: Json) -> str:
    """A rendered value as text: a string as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _lookup(reference: Reference, scope: ReferenceScope) -> Json:
    if reference.root not in ROOTS:
        roots = listed(sorted(ROOTS), joint="or")
        raise errors.Invalid(f"{{{{ {reference} }}}} is not a known reference.", hint=f"Start with {roots}.")
    value: Any = getattr(scope, reference.root)
    if reference.root == "needs" and reference.steps and (name := reference.steps[0]) in value:
        value = {name: {"result": value[name]}}
    for count, step in enumerate(reference.steps):
        try:
            if isinstance(value, str | int) or isinstance(step, int) is not isinstance(value, list):
                raise TypeError
            value = value[step]
        except (KeyError, IndexError, TypeError):
            parent = _path_text(reference.root, reference.steps[:count])
            missing = quoted(step) if isinstance(step, str) else f"[{step}]"
            message = f"{{{{ {reference} }}}}: {parent} {_description(value)}, so it has no {missing}."
            raise errors.Invalid(message, hint="Refer to a value that exists.") from None
    return value  # type: ignore[no-any-return]


def _description(value: Any) -> str:
    """What a value has or is, as a predicate."""
    if isinstance(value, Mapping):
        if not value:
            return "is empty"
        names: Collection[str] = list(value)[:20]
        more = " and more" if len(value) > len(names) else ""
        return f"has {', '.join(quoted(name) for name in names)}{more}"
    if isinstance(value, list):
        return f"is a list of {len(value)}"
    kinds = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a string"}
    return f"is {kinds.get(type(value), 'not a container')}"


def _path_text(root: str, steps: tuple[str | int, ...]) -> str:
    text = root
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if re.fullmatch(r"[A-Za-z0-9_-]+", step) else f'["{step}"]'
    return text
