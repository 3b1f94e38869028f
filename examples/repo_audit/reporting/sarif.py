"""The findings in SARIF 2.1.0, which code hosts and editors display.

Specification: https://docs.oasis-open.org/sarif/sarif/v2.1.0/
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from examples.repo_audit.results.ranking import Item

_LEVEL = {"critical": "error", "high": "error", "medium": "warning", "low": "note", "info": "note"}
MAX_RESULTS = 5_000  # code hosts accept no more


def render(items: Sequence[Item]) -> dict[str, Any]:
    rules = {item.rule.id: item.rule for item in items}
    results = [
        {
            "ruleId": item.rule.id,
            "level": _LEVEL[item.severity],
            "message": {"text": location.detail or item.title},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": quote(location.file)},
                        "region": {"startLine": max(1, location.line)},
                    }
                }
            ],
            "rank": round(min(100.0, location.score), 1),
        }
        for item in items
        for location in item.locations
        if location.file
    ]
    described = [
        {
            "id": rule.id,
            "shortDescription": {"text": rule.title},
            "fullDescription": {"text": rule.why},
            "help": {"text": rule.fix},
        }
        for rule in rules.values()
    ]
    driver = {"name": "Fleet repository audit", "rules": described}
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results[:MAX_RESULTS]}],
    }
