"""The kinds of argument that several commands take; argparse says which argument was wrong, and ends with code 2."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError

MOST = 1_000_000


def count(text: str) -> int:
    """A whole number from 0 to a million."""
    if not (text.isascii() and text.isdigit() and len(text) <= 7 and int(text) <= MOST):
        raise ArgumentTypeError(f"{text!r} is not a whole number from 0 to {MOST:,}")
    return int(text)


def days(text: str) -> int:
    """Days, at most a century."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 36_500):
        raise ArgumentTypeError(f"{text!r} is not a number of days from 0 to 36500")
    return int(text)


def seconds(text: str) -> float:
    """Seconds, not below zero."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1e9:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def interval(text: str) -> float:
    """Seconds between two looks: a tenth of one, or more."""
    return max(0.1, seconds(text))
