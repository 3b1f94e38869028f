"""Types of arguments that several commands share. argparse reports which argument was wrong and exits with code 2."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError

from fleet import errors

MAX_COUNT = 1_000_000


def count(text: str) -> int:
    """Parse a whole number from 0 to a million."""
    if not (text.isascii() and text.isdigit() and len(text) <= 7 and int(text) <= MAX_COUNT):
        raise ArgumentTypeError(f"{text!r} is not a whole number from 0 to {MAX_COUNT:,}")
    return int(text)


def days(text: str) -> int:
    """Parse a whole number of days, at most a century."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 36_500):
        raise ArgumentTypeError(f"{text!r} is not a number of days from 0 to 36500")
    return int(text)


def seconds(text: str) -> float:
    """Parse a number of seconds, zero or more."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1e9:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def pairs(texts: list[str], *, option: str) -> dict[str, str]:
    """Parse NAME=VALUE, as given by a repeatable option. Raises Invalid for other text or a repeated name."""
    values: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise errors.Invalid(f"{option} {text!r} is not NAME=VALUE.")
        if name in values:
            raise errors.Invalid(f"{option} {name} appears twice.", hint="Pass it once.")
        values[name] = value
    return values


def interval(text: str) -> float:
    """Parse the seconds between two refreshes; less than 0.1 becomes 0.1."""
    return max(0.1, seconds(text))
