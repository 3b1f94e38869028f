"""Small pictures of numbers, in one line of text."""

from __future__ import annotations

from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"


def line(values: Sequence[float | None], *, top: float) -> str:
    """A block for each value, full at `top` and above; a blank where there is none."""
    return "".join(" " if value is None else BLOCKS[_level(value / top)] for value in values)


def _level(part: float) -> int:
    return min(max(int(part * len(BLOCKS)), 0), len(BLOCKS) - 1)
