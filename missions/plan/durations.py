"""Durations as plans write them: 90s, 10m, 1h30m, 1.5h, 250ms, 2d, or a number of seconds."""

from __future__ import annotations

import re

LONGEST_S = 365 * 86_400.0

_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)", re.ASCII)
_WHOLE = re.compile(rf"(?:{_PART.pattern})+", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


def seconds(value: str | int | float) -> float:
    """The seconds of a duration. Raises ValueError if it is not a duration, not above zero, or more than a year."""
    if isinstance(value, str):
        if not _WHOLE.fullmatch(value):
            raise ValueError("is not a duration")
        total = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(value))
    else:
        total = float(value)
    if not total > 0:
        raise ValueError("is too short: it must be above zero")
    if total > LONGEST_S:
        raise ValueError("is too long: at most 365d is allowed")
    return total
