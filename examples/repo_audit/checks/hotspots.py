"""Finds files that are both complex and often changed, where refactoring pays off first.

The method is that of Adam Tornhill, "Your Code as a Crime Scene".
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from agents.callables import Context, register
from examples.repo_audit.repository import tree
from examples.repo_audit.results import gathering, rules
from examples.repo_audit.results.findings import Ledger, Outcome

MAX_POINTS = 250  # of the chart

HOTSPOT = rules.get("hotspots:complex-and-changed")


@register
def find(context: Context) -> Outcome:
    """Compare each file's complexity with its number of changes; files with much of both are findings."""
    changed: dict[str, list[int]] = _figures(context.needs.get("history")).get("files", {})
    ledger = Ledger()
    points: list[dict[str, Any]] = []
    spread: Counter[str] = Counter()
    for outcome in gathering.outcomes(context.needs.get("complexity")):
        figures = _figures(outcome)
        spread.update(figures.get("spread", {}))
        language = (figures.get("languages") or [""])[0]
        for path, (branches, worst, lines, functions) in figures.get("files", {}).items():
            commits = changed.get(path, [0, 0])[0]
            points.append(
                {
                    "file": path, "commits": commits, "branches": branches, "worst": worst, "lines": lines,
                    "functions": functions, "language": language, "role": tree.role(path),
                }
            )  # fmt: skip
    product = [point for point in points if point["role"] == "product"]
    product.sort(key=lambda point: (-point["commits"] * point["branches"], point["file"]))
    for point in _hotspots(product):
        detail = f"{point['commits']} recent commits, {point['branches']} branches in {point['functions']} functions"
        ledger.add(HOTSPOT, file=point["file"], lines=point["lines"], detail=detail)
    ledger.checked_count = len(points)
    ledger.figures = {"points": product[:MAX_POINTS], "spread": dict(spread)}
    return ledger.outcome()


def _hotspots(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most five files in the top tenth (at least three files) by changes and by complexity, above fixed minimums."""
    if len(points) < 5:
        return []
    share = max(3, len(points) // 10)
    by_commits = sorted((point["commits"] for point in points), reverse=True)[share - 1]
    by_branches = sorted((point["branches"] for point in points), reverse=True)[share - 1]
    return [
        point
        for point in points
        if point["commits"] >= max(8, by_commits) and point["branches"] >= max(60, by_branches) and point["worst"] > 10
    ][:5]


def _figures(outcome: object) -> dict[str, Any]:
    return outcome.get("figures") or {} if isinstance(outcome, dict) else {}
