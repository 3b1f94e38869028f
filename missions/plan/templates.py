"""Templates: {{ needs.lint.result.files[0] }} in a value of the plan is replaced by what it names.

A reference is a path and nothing else: names after dots, [n] for an item of a list, ["a name"] for a name with other
characters. Nothing is computed or called. A value that is one reference whole keeps the type of what it names; within
a longer text a text stands as it is and anything else as JSON. `\\{{` stands for {{ itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet import errors
from missions.plan.faults import listed, quoted
from missions.plan.values import Json

ROOTS = frozenset({"needs", "inputs", "matrix", "mission", "sortie"})
MAX_CHARS = 1_000_000  # of text that the templates of one value may come to

_PIECE = re.compile(r"\\\{\{|\{\{(.*?)\}\}|\{\{", re.DOTALL)
_STEP = re.compile(r'\.([A-Za-z0-9_][A-Za-z0-9_-]*)|\[([0-9]{1,6})\]|\["([^"\\{}]+)"\]')
_REFERENCE = re.compile(rf"\s*([A-Za-z_]+)((?:{_STEP.pattern})*)\s*")
_SAFE_IN_SHELL = re.compile(r"[A-Za-z0-9._/+:@%=,-]+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One {{ … }}: where it begins to look, and the steps from there."""

    root: str
    steps: tuple[str | int, ...]

    def __str__(self) -> str:
        return _spelled(self.root, self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What references can name. `needs` holds results by the name of the need, a list for a matrix."""

    needs: Mapping[str, Json] = field(default_factory=dict)
    inputs: Mapping[str, Json] = field(default_factory=dict)
    matrix: Mapping[str, Json] = field(default_factory=dict)
    mission: Mapping[str, Json] = field(default_factory=dict)
    sortie: Mapping[str, Json] = field(default_factory=dict)


def render(*, value: Json, scope: Scope) -> Json:
    """The value with each reference replaced. errors.Invalid names a path that is not there, and what is."""
    left = MAX_CHARS

    def resolve(reference: Reference) -> Json:
        return _lookup(reference, scope)

    def spend(text: str) -> str:
        nonlocal left
        left -= len(text)
        if left < 0:
            message = f"The templates of this value come to more than {MAX_CHARS:,} characters."
            raise errors.Invalid(message, hint="Read the result from the folder $FLEET_NEEDS instead.")
        return text

    return _walk(value, lambda text: _replace(text, resolve, spend=spend))


def fill_matrix(*, value: Json, matrix: Mapping[str, Json]) -> Json:
    """The value with the references to `matrix` replaced and all others left for `render`."""
    scope = Scope(matrix=matrix)

    def resolve(reference: Reference) -> Json:
        return _lookup(reference, scope) if reference.root == "matrix" else _KEEP

    return _walk(value, lambda text: _replace(text, resolve, unescape=False))


def shell_text(*, text: str, matrix: Mapping[str, Json]) -> str:
    """Text for a shell: only `matrix` is replaced, and only by values that mean themselves to any shell.

    ValueError tells which value does not; quoting it would not do, as the text may have put quotes around it already.
    """

    def resolve(reference: Reference) -> Json:
        value = _lookup(reference, Scope(matrix=matrix))
        if not is_safe_in_shell(value):
            raise ValueError(f"The value {quoted(value)} of {reference} has characters with a meaning to the shell.")
        return value

    return as_text(_replace(text, resolve))


def is_safe_in_shell(value: Json) -> bool:
    """Whether a value means itself to any shell."""
    return _SAFE_IN_SHELL.fullmatch(as_text(value)) is not None


def references(text: str) -> Iterator[Reference]:
    """The different references of a text. ValueError with one sentence where one cannot be read."""
    if "{{" not in text:
        return
    seen: set[str] = set()
    for piece in _PIECE.finditer(text):
        if (written := piece.group()) != "\\{{" and written not in seen:
            seen.add(written)
            yield _parse(piece)


def texts(value: Json, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Each text within a value that has a template, with its path."""
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
    found = _REFERENCE.fullmatch(piece[1])
    if not found:
        raise ValueError(f"{quoted(piece.group())} is not a path of names.")
    steps = tuple(int(step[2]) if step[2] is not None else (step[1] or step[3]) for step in _STEP.finditer(found[2]))
    return Reference(root=found[1], steps=steps)


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
    whole = _PIECE.fullmatch(text)
    if whole and whole[1] is not None and "{{" not in whole[1]:
        value = resolve(_parse(whole))
        if value is _KEEP:
            return text
        return spend(value) if isinstance(value, str) else value

    def piece(found: re.Match[str]) -> str:
        if found.group() == "\\{{":
            return "{{" if unescape else found.group()
        value = resolve(_parse(found))
        return found.group() if value is _KEEP else spend(as_text(value))

    return _PIECE.sub(piece, text)


def as_text(value: Json) -> str:
    """A rendered value where text is wanted: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _lookup(reference: Reference, scope: Scope) -> Json:
    if reference.root not in ROOTS:
        raise errors.Invalid(f"{{{{ {reference} }}}} names nothing.", hint=f"Begin with {listed(sorted(ROOTS))}.")
    here: Any = getattr(scope, reference.root)
    if reference.root == "needs" and reference.steps and (name := reference.steps[0]) in here:
        here = {name: {"result": here[name]}}
    for count, step in enumerate(reference.steps):
        try:
            if isinstance(here, str | int) or isinstance(step, int) is not isinstance(here, list):
                raise TypeError
            here = here[step]
        except (KeyError, IndexError, TypeError):
            so_far = _spelled(reference.root, reference.steps[:count])
            message = f"{{{{ {reference} }}}}: {so_far} {_what_there_is(here)}, so it has no {_shown(step)}."
            raise errors.Invalid(message, hint="Name something that is there.") from None
    return here  # type: ignore[no-any-return]


def _what_there_is(value: Any) -> str:
    if isinstance(value, Mapping):
        if not value:
            return "is empty"
        names: Collection[str] = list(value)[:20]
        more = " and more" if len(value) > len(names) else ""
        return f"has {', '.join(quoted(name) for name in names)}{more}"
    if isinstance(value, list):
        return f"is a list of {len(value)}"
    kinds = {type(None): "null", bool: "true or false", int: "a number", float: "a number", str: "a text"}
    return f"is {kinds.get(type(value), 'something else')}"


def _shown(step: str | int) -> str:
    return quoted(step) if isinstance(step, str) else f"[{step}]"


def _spelled(root: str, steps: tuple[str | int, ...]) -> str:
    text = root
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if re.fullmatch(r"[A-Za-z0-9_-]+", step) else f'["{step}"]'
    return text
