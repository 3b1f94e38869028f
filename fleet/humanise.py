"""Formats durations and lists for people. JSON output has plain seconds and whole lists instead."""

from __future__ import annotations

from collections.abc import Sequence

MINUTE, HOUR, DAY = 60, 3_600, 86_400


def duration(seconds: float) -> str:
    """`85 ms`, `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`, `5 d 3 h`: at most two units, rounded to the smaller one."""
    seconds = max(0.0, seconds)
    if round(seconds, 1) < 10:
        if 0 < round(seconds * 1_000, 1) < 100:
            return f"{seconds * 1_000:.{0 if seconds >= 0.01 else 1}f} ms"
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    if round(seconds) < MINUTE:
        return f"{seconds:.0f} s"
    if round(seconds) < HOUR:
        return _two_units(round(seconds), MINUTE, "min", 1, "s")
    if round(seconds / MINUTE) * MINUTE < DAY:
        return _two_units(round(seconds / MINUTE) * MINUTE, HOUR, "h", MINUTE, "min")
    return _two_units(round(seconds / HOUR) * HOUR, DAY, "d", HOUR, "h")


def _two_units(seconds: int, large: int, large_unit: str, small: int, small_unit: str) -> str:
    count, remainder = divmod(seconds, large)
    return f"{count} {large_unit}" + (f" {remainder // small} {small_unit}" if remainder else "")


def shorten_list(names: Sequence[str], limit: int) -> str:
    """`a, b, c and 2 more`: the first names, and how many more there are."""
    listed = ", ".join(names[:limit])
    return listed if len(names) <= limit else f"{listed} and {len(names) - limit:,} more"
