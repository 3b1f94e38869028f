"""The one definition of a JSON value that the fleet accepts, whoever sends it: files and callables of sorties, the API, plans.

A value is acceptable if it nests lists and objects at most DEPTH levels deep, its integers are within ±2⁶³, its floats are
finite, and no text or name in it contains a NUL or an unpaired surrogate. Its size is that of its compact JSON in UTF-8.
Whatever is acceptable can be stored in Postgres and comes back equal, through the API too.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

DEPTH = 40  # levels of lists and objects
INTEGER = 2**63  # the largest absolute value

_MOST_DIGITS = 20  # no integer within ±INTEGER has more; reading longer ones takes quadratic time
_SURROGATE = re.compile("[\ud800-\udfff]")
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},]')
_EXPONENT = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?e\+\d+')


class Unacceptable(ValueError):
    """A value that is not accepted: where, as a JSON pointer (empty for the whole value), and why."""

    def __init__(self, reason: str, steps: Sequence[str | int] = ()) -> None:
        self.reason = reason  # a predicate: "contains a NUL character"
        self.steps = tuple(steps)
        super().__init__(reason)

    @property
    def pointer(self) -> str:
        return "".join(f"/{_escaped(step)}" for step in self.steps)

    @property
    def sentence(self) -> str:
        text = str(self)
        return f"{text[0].upper()}{text[1:]}."

    def __str__(self) -> str:
        where = f"the value at {self.pointer}" if self.steps else "the value"
        return f"{where} {self.reason}"


class TooLarge(Unacceptable):
    """Its size is what is not accepted."""


def parse(data: bytes | str, *, max_bytes: int | None = None) -> Any:
    """The acceptable value that JSON text in UTF-8 writes. ValueError where it is not JSON, Unacceptable for other faults."""
    if max_bytes is not None and len(data) > max_bytes:
        raise TooLarge(f"is larger than {max_bytes:,} bytes")
    text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
    try:
        value = json.loads(text, parse_int=_integer, parse_constant=float)
    except RecursionError:
        raise Unacceptable(f"is nested more than {DEPTH} levels deep", _first_beyond_depth(text)) from None
    check(value)
    return value


def check(value: Any, *, max_bytes: int | None = None) -> None:
    """Unacceptable, with the first place, where this is not an acceptable value or its compact JSON is too large."""
    _check(value, DEPTH)
    if max_bytes is not None and size(value) > max_bytes:
        raise TooLarge(f"is larger than {max_bytes:,} bytes")


def scalar_fault(value: object) -> str:
    """Why a text or number is not acceptable, as a predicate; empty where it is."""
    match value:
        case None | bool():
            return ""
        case str():
            if "\0" in value:
                return "contains a NUL character"
            if not value.isascii() and _SURROGATE.search(value):
                return "contains an unpaired surrogate"
            return ""
        case int():
            return "" if -INTEGER <= value <= INTEGER else "is an integer outside ±2⁶³"
        case float():
            return "" if math.isfinite(value) else "is not a finite number"
    return f"is of the type {type(value).__name__}, which JSON does not have"


def encode(value: Any) -> str:
    """Compact JSON text of an acceptable value.

    Large floats are written without an exponent and with ".0": jsonb returns `1e+23` as an integer, and this as the float.
    """
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return _EXPONENT.sub(_without_exponent, text) if "e+" in text else text


class Encoder(json.JSONEncoder):
    """`encode`, for a JSONField."""

    def encode(self, o: Any) -> str:
        return encode(o)


def size(value: Any) -> int:
    """The bytes of a value's compact JSON in UTF-8."""
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


def _check(value: Any, levels: int) -> None:
    kind = type(value)
    if value is None or kind is bool:
        return
    if kind is str and value.isascii() and "\0" not in value:
        return
    if isinstance(value, Mapping):
        if not levels:
            raise Unacceptable(f"is nested more than {DEPTH} levels deep")
        for name, item in value.items():
            if not isinstance(name, str):
                raise Unacceptable(f"has the name {str(name)[:60]!r}, which is not a text")
            if fault := scalar_fault(name):
                raise Unacceptable(f"has a name that {fault}")
            try:
                _check(item, levels - 1)
            except Unacceptable as inner:
                raise Unacceptable(inner.reason, (name, *inner.steps)) from None
    elif isinstance(value, list | tuple):
        if not levels:
            raise Unacceptable(f"is nested more than {DEPTH} levels deep")
        for index, item in enumerate(value):
            try:
                _check(item, levels - 1)
            except Unacceptable as inner:
                raise Unacceptable(inner.reason, (index, *inner.steps)) from None
    elif fault := scalar_fault(value):
        raise Unacceptable(fault)


def _integer(digits: str) -> int:
    """Of one that is too long any that is refused: it is told with its place afterwards."""
    return int(digits) if len(digits) <= _MOST_DIGITS else 2 * INTEGER


def _first_beyond_depth(text: str) -> list[str | int]:
    """The place of the first value nested too deep, in text that the parser has read that far."""
    steps: list[str | int | None] = []  # an index, or a name; None where a name is expected
    for found in _BRACKETS.finditer(text):
        token = found[0]
        if token in "[{":
            if len(steps) == DEPTH:
                break
            steps.append(0 if token == "[" else None)
        elif token in "]}":
            steps.pop()
        elif token == ",":
            last = steps[-1]
            steps[-1] = last + 1 if isinstance(last, int) else None
        elif steps and steps[-1] is None:
            steps[-1] = json.loads(token)
    return [step for step in steps if step is not None]


def _without_exponent(found: re.Match[str]) -> str:
    return found[0] if found[0].startswith('"') else format(float(found[0]), ".1f")


def _escaped(step: str | int) -> str:
    """A reference token of a JSON pointer (RFC 6901, section 3), short and fit to be printed."""
    text = str(step).replace("~", "~0").replace("/", "~1")
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text[:60])
    return shown if len(text) <= 60 else f"{shown}…"
