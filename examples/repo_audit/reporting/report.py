"""The last sortie: writes the report in four formats."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from agents.callables import Context, register
from examples.repo_audit.reporting import markdown, page, sarif
from examples.repo_audit.repository import tree
from examples.repo_audit.results import gathering
from examples.repo_audit.results.gathering import Audit
from examples.repo_audit.results.ranking import Item


@register
def render(context: Context, *, top: int = 20) -> dict[str, object]:
    """Write report.html, report.md, findings.json and findings.sarif; return a summary with the first `top` items."""
    if not context.needs.get("inventory"):
        # If there is no repository, this raises the same error as the inventory did.
        tree.from_context(context)
    audit = gathering.gather(needs=context.needs, repository=context.inputs["repository"])
    context.progress(0.3, f"rendering {audit.total:,} findings")
    summary = summarise(audit, top=top)
    files = {
        "report.html": page.render(audit),
        "report.md": markdown.render(audit, top=top),
        "findings.json": json.dumps({**summary, "items": [_with_locations(item) for item in audit.items]}, indent=1),
        "findings.sarif": json.dumps(sarif.render(audit.items)),
    }
    for name, text in files.items():
        (context.scratch / name).write_text(text, encoding="utf-8")
    context.progress(1, f"findings: {audit.total:,}")
    return summary


def summarise(audit: Audit, *, top: int) -> dict[str, object]:
    """The result for programs and for the terminal."""
    headline, below = gathering.verdict(audit)
    return {
        "repository": audit.name,
        "verdict": headline,
        "because": below,
        "findings": audit.total,
        "things": len(audit.items),
        "by_severity": dict(audit.by_severity),
        "by_area": {area: sum(counts.values()) for area, counts in audit.by_area.items()},
        "files": audit.inventory.get("files", 0),
        "lines": audit.inventory.get("lines", 0),
        "top": [_short(item) for item in audit.items[: max(0, top)]],
        "absent": audit.absent,
        "report": "report.html",
    }


def _short(item: Item) -> dict[str, Any]:
    first = item.locations[0]
    return {
        "title": item.title,
        "file": first.file,
        "line": first.line,
        "detail": first.detail,
        "severity": item.severity,
        "area": item.rule.area,
        "places": item.count,
        "score": round(item.score, 1),
        "why": item.rule.why,
        "fix": item.rule.fix,
    }


def _with_locations(item: Item) -> dict[str, Any]:
    return {
        **_short(item),
        "rule": item.rule.id,
        "confidence": round(item.confidence, 2),
        "tools": list(item.tools),
        "locations": [asdict(location) for location in item.locations],
    }
