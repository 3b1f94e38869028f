"""Checkpoints, recovery plans and differences as text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import OutputWrapper

from checkpoints.operations import Difference
from checkpoints.planning import RecoveryPlan
from fleet import humanise
from fleet.console import lines

MAX_KEYS = 12  # in one line
MAX_VALUE = 60  # characters of a changed value

_SENTENCES = {
    "keep": "stay as they are",
    "put_back": "get back the outcome that the checkpoint has",
    "run": "run from their start",
    "resume": "run from where they stopped",
    "create": "are created again",
    "drop": "were added since and are removed",
    "lost": "have succeeded since; the safety checkpoint keeps their results",
    "stopped": "are running and are stopped",
}


def size(bytes: int) -> str:
    """`812 B`, `1.2 KB`, `3.4 MB`"""
    value = float(bytes)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1_000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1_000
    raise AssertionError


def table(summaries: Sequence[dict[str, Any]], out: OutputWrapper) -> None:
    """Write one line per checkpoint."""
    rows = [("ID", "CREATED (UTC)", "TRIGGER", "SORTIES", "SIZE", "NEW", "NAME")]
    for summary in summaries:
        created = datetime.fromisoformat(summary["created_at"]).astimezone(UTC)
        rows.append(
            (
                summary["id"],
                f"{created:%Y-%m-%d %H:%M:%S}",
                summary["trigger"],
                f"{summary['sorties']:,}",
                size(summary["bytes"]),
                size(summary["new_bytes"]),
                lines.one_line(summary["name"] or summary["note"]) + (" (kept)" if summary["keep"] else ""),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        out.write(lines.fitted(line, width=lines.columns(out)))


def detail(data: dict[str, Any], out: OutputWrapper) -> None:
    width = lines.columns(out)

    def write(text: str) -> None:
        out.write(
            lines.fitted(lines.one_line(text) if not text.startswith(" ") else "  " + lines.one_line(text), width=width)
        )

    title = f"{data['id']}  {data['name']}".rstrip()
    write(f"{title}  {data['trigger']}  {data['created_at'][:19]}  {size(data['bytes'])}")
    if data["note"]:
        write(f"  {data['note']}")
    for content in data["contents"]:
        context = content["context"] or {}
        write(f"{content['id']}  {content['name']}  {content['state']}  digest {content['digest'][:16]}")
        if context:
            write(f"  {context['summary']} It had run for {humanise.duration(context['elapsed_s'])}.")
            for step in context["next_steps"][:5]:
                write(f"  next: {step['sortie']} ({step['agent_type']}, {step['state']})")
            for blocker in context["blockers"][:5]:
                reported = f": {blocker['reported']}" if blocker["reported"] else ""
                write(f"  in the way: {blocker['sortie']} {blocker['state']}{reported}")
            for file in context["files_modified"][:5]:
                write(f"  file: {file['path']} of {file['sortie']}")


def recovery_plan(plan: RecoveryPlan, out: OutputWrapper) -> None:
    width = lines.columns(out)
    out.write(
        f"{plan.checkpoint}, {humanise.duration(plan.age_s)} old, {size(plan.bytes)}: {plan.mission} would be {plan.state}."
    )
    for name, sentence in _SENTENCES.items():
        if found := getattr(plan, name):
            out.write(lines.fitted(f"  {len(found):>6,} {sentence}: {keys(found)}", width=width, indent=9))
    if plan.agents_to_spawn:
        out.write(f"  No agent serves {', '.join(plan.agents_to_spawn)}; its sorties would wait for one.")
    for risk in plan.risks:
        out.write(lines.fitted(f"  {risk.level} risk: {risk.message} {risk.mitigation}", width=width))
    out.write(f"  The plan is {plan.digest}; --plan {plan.digest} applies exactly this one.")


def difference(found: Difference, out: OutputWrapper) -> None:
    width = lines.columns(out)
    for name, pair in found.mission.items():
        out.write(lines.fitted(f"mission {name}: {_values(pair)}", width=width))
    for key in found.added:
        out.write(f"+ {lines.one_line(key)}")
    for key in found.removed:
        out.write(f"- {lines.one_line(key)}")
    for change in found.changed:
        parts = "; ".join(f"{name} {_values(pair)}" for name, pair in change.parts.items())
        out.write(lines.fitted(f"~ {lines.one_line(change.key)}: {parts}", width=width))


def _values(pair: Iterable[Any]) -> str:
    return " → ".join(_short(json.dumps(value, ensure_ascii=False)) for value in pair)


def _short(text: str) -> str:
    return lines.one_line(text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}…")


def keys(names: Sequence[str]) -> str:
    """The first keys, and how many more there are."""
    shown = ", ".join(lines.one_line(name) for name in names[:MAX_KEYS])
    return shown if len(names) <= MAX_KEYS else f"{shown} and {len(names) - MAX_KEYS:,} more"
