"""Defines the JSON values that the fleet accepts from files and callables of sorties, the API and plans.

A value is acceptable if it nests lists and objects at most MAX_DEPTH levels deep, its integers are within ±2⁶³, its
floats are finite, and no string or key in it contains a NUL or an unpaired surrogate. Its size is that of its compact
JSON in UTF-8. Postgres stores every acceptable value, and the API returns it unchanged.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

MAX_DEPTH = 40  # levels of lists and objects
MAX_INTEGER = 2**63  # the largest absolute value

_MAX_DIGITS = 20  # no integer within ±MAX_INTEGER has more; reading longer ones takes quadratic time
_SURROGATE = re.compile("[\ud800-\udfff]")
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},]')
_EXPONENT = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?e\+\d+')


class Unacceptable(ValueError):
    """A value is not accepted. `steps` lead to the faulty place, `reason` says what is wrong."""

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
    """A value is too large."""


def parse(data: bytes | str, *, max_bytes: int | None = None) -> Any:
    """Parse JSON in UTF-8 into an acceptable value. Raises ValueError if it is not JSON, Unacceptable otherwise."""
    if max_bytes is not None and len(data) > max_bytes:
        raise TooLarge(f"is larger than {max_bytes:,} bytes")
    text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
    try:
        value = json.loads(text, parse_int=_integer, parse_constant=float)
    except RecursionError:
        raise Unacceptable(f"is nested more than {MAX_DEPTH} levels deep", _first_beyond_depth(text)) from None
    check(value)
    return value


def check(value: Any, *, max_bytes: int | None = None) -> None:
    """Raise Unacceptable, with the first place, unless the value is acceptable and its compact JSON small enough."""
    _check(value, MAX_DEPTH)
    if max_bytes is not None and size(value) > max_bytes:
        raise TooLarge(f"is larger than {max_bytes:,} bytes")


def scalar_problem(value: object) -> str:
    """Return why a string or number is not acceptable, as a predicate; empty if it is acceptable."""
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
            return "" if -MAX_INTEGER <= value <= MAX_INTEGER else "is an integer outside ±2⁶³"
        case float():
            return "" if math.isfinite(value) else "is not a finite number"
    return f"is of the type {type(value).__name__}, which JSON does not have"


def encode(value: Any) -> str:
    """Return the compact JSON of an acceptable value.

    Large floats are written with ".0" and without an exponent, because jsonb would return `1e+23` as an integer.
    """
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return _EXPONENT.sub(_without_exponent, text) if "e+" in text else text


class Encoder(json.JSONEncoder):
    """`encode`, for a JSONField."""

    def encode(self, o: Any) -> str:
        return encode(o)


def size(value: Any) -> int:
    """Return the number of bytes of a value's compact JSON in UTF-8."""
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


def _check(value: Any, levels: int) -> None:
    kind = type(value)
    if value is None or kind is bool:
        return
    if kind is str and value.isascii() and "\0" not in value:
        return
    if isinstance(value, Mapping):
        if not levels:
            raise Unacceptable(f"is nested more than {MAX_DEPTH} levels deep")
        for name, item in value.items():
            if not isinstance(name, str):
                raise Unacceptable(f"has the key {str(name)[:60]!r}, which is not a string")
            if problem := scalar_problem(name):
                raise Unacceptable(f"has a key that {problem}")
            try:
                _check(item, levels - 1)
            except Unacceptable as inner:
                raise Unacceptable(inner.reason, (name, *inner.steps)) from None
    elif isinstance(value, list | tuple):
        if not levels:
            raise Unacceptable(f"is nested more than {MAX_DEPTH} levels deep")
        for index, item in enumerate(value):
            try:
                _check(item, levels - 1)
            except Unacceptable as inner:
                raise Unacceptable(inner.reason, (index, *inner.steps)) from None
    elif problem := scalar_problem(value):
        raise Unacceptable(problem)


def _integer(digits: str) -> int:
    """Parse an integer. One that is too long becomes another unacceptable one, which `check` reports with its place."""
    return int(digits) if len(digits) <= _MAX_DIGITS else 2 * MAX_INTEGER


def _first_beyond_depth(text: str) -> list[str | int]:
    """Return the steps to the first value that is nested too deep. The parser has found the text valid up to there."""
    steps: list[str | int | None] = []  # indexes and keys; None where a key is expected
    for match in _BRACKETS.finditer(text):
        token = match[0]
        if token in "[{":
            if len(steps) == MAX_DEPTH:
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


def _without_exponent(match: re.Match[str]) -> str:
    return match[0] if match[0].startswith('"') else format(float(match[0]), ".1f")


def _escaped(step: str | int) -> str:
    """Return a reference token of a JSON pointer (RFC 6901, section 3), shortened and printable."""
    text = str(step).replace("~", "~0").replace("/", "~1")
    printable = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text[:60])
    return printable if len(text) <= 60 else f"{printable}…"
