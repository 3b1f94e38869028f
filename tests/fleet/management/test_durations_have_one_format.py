"""Durations have the same format everywhere."""

from __future__ import annotations

import ast

import pytest

from fleet import humanise
from tests.support.paths import CHECKOUT


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"), (0, "0 s"), (0.0003, "0.3 ms"), (0.085, "85 ms"), (0.42, "0.4 s"), (1, "1 s"), (9.96, "10 s"),
        (42.4, "42 s"), (59.7, "1 min"), (60, "1 min"), (185, "3 min 5 s"), (3_599.6, "1 h"), (7_500, "2 h 5 min"),
        (86_399, "1 d"), (86_400 * 5 + 3_600 * 3, "5 d 3 h"),
    ],
)  # fmt: skip
def test_a_duration_has_at_most_two_units(seconds: float, text: str) -> None:
    assert humanise.duration(seconds) == text


def test_only_humanise_formats_durations() -> None:
    """An f-string with a number's format just before a unit of time."""
    own = {"fleet/humanise.py", "fleet/services/journal.py", "fleet/checks.py"}  # a check names settings exactly
    own.add("fleet/containers/health_check.py")  # a standalone program that imports nothing of the fleet
    found = [
        f"{path.relative_to(CHECKOUT)}:{text.lineno}"
        for app in ("fleet", "agents", "missions")
        for path in (CHECKOUT / app).rglob("*.py")
        if str(path.relative_to(CHECKOUT)) not in own
        for text in ast.walk(ast.parse(path.read_text()))
        if isinstance(text, ast.JoinedStr)
        for value, after in zip(text.values, text.values[1:], strict=False)
        if isinstance(value, ast.FormattedValue) and value.format_spec is not None
        and isinstance(after, ast.Constant) and str(after.value).split(" ", 2)[:1] == [""]
        and str(after.value).split()[:1] and str(after.value).split()[0].rstrip(".,;:)") in {"s", "ms", "min", "h"}
    ]  # fmt: skip
    assert [place for place in found if not place.startswith("missions/admin/attempts.py")] == []
