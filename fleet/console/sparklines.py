"""Sparklines: small charts in one line of text."""

from __future__ import annotations

from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"


def line(values: Sequence[float | None], *, top: float) -> str:
    """Return one block per value, full from `top` upwards, and a blank for each missing value."""
    return "".join(" " if value is None else BLOCKS[_level(value / top)] for value in values)


def _level(fraction: float) -> int:
    return min(max(int(fraction * len(BLOCKS)), 0), len(BLOCKS) - 1)
