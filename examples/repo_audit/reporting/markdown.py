"""The audit as Markdown, for a pull request or an issue."""

from __future__ import annotations

import re

from examples.repo_audit.reporting import page
from examples.repo_audit.results import gathering
from examples.repo_audit.results.findings import SEVERITIES
from examples.repo_audit.results.gathering import Audit
from examples.repo_audit.results.ranking import Item, Location

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!&])")


def render(audit: Audit, *, top: int) -> str:
    """The verdict, the first `top` items, and notes."""
    headline, below = gathering.verdict(audit)
    counts = " · ".join(f"{audit.by_severity[name]:,} {name}" for name in SEVERITIES if audit.by_severity[name])
    parts = [f"# {escaped(audit.name)}: {headline}", below, counts]
    for number, item in enumerate(audit.items[:top], 1):
        parts.append(_item(item, number))
    if len(audit.items) > top:
        parts.append(f"{len(audit.items) - top:,} more are in report.html and findings.json.")
    if notes := page.remarks(audit):
        parts.append("## Notes\n\n" + "\n".join(f"- {escaped(note)}" for note in notes))
    return "\n\n".join(part for part in parts if part) + "\n"


def escaped(text: str) -> str:
    """Text of a repository, escaped so that it cannot become a heading, a link, an image or HTML."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split())).replace("://", ":\u200b//").replace("@", "@\u200b")


def code(text: str) -> str:
    """A code span with a fence that the text does not contain."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * (longest + 1)
    edge = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{edge}{text}{edge}{fence}"


def _item(item: Item, number: int) -> str:
    lines = [
        f"## {number}. {escaped(item.title)}",
        f"**{item.severity}**, {page.number(item.count, 'place')} ({', '.join(item.tools)}). {escaped(item.rule.why)}",
        f"**Fix:** {escaped(item.rule.fix)}",
    ]
    locations = [location for location in item.locations if location.file][:5]
    if locations:
        more = [f"- and {item.count - len(locations):,} more"] if item.count > len(locations) else []
        lines.append("\n".join([*map(_location, locations), *more]))
    return "\n\n".join(lines)


def _location(location: Location) -> str:
    detail = f" {escaped(location.detail)}" if location.detail and location.detail != location.file else ""
    return f"- {code(page.where(location))}{detail}"
