"""Checkpoints, recovery plans and differences as text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import OutputWrapper

from checkpoints.operations import Difference
from checkpoints.recovery.plan import LISTS, RecoveryPlan
from fleet import humanise
from fleet.console import lines

MAX_KEYS = 12  # in one line
MAX_VALUE = 60  # characters of a changed value


def table(summaries: Sequence[dict[str, Any]], out: OutputWrapper) -> None:
    """Write one line per checkpoint."""
    rows = []
    for summary in summaries:
        created = datetime.fromisoformat(summary["created_at"]).astimezone(UTC)
        rows.append(
            (
                summary["id"],
                f"{created:%Y-%m-%d %H:%M:%S}",
                summary["trigger"],
                f"{summary['sorties']:,}",
                lines.size(summary["bytes"]),
                lines.size(summary["new_bytes"]),
                (summary["name"] or summary["note"]) + (" (kept)" if summary["keep"] else ""),
            )
        )
    header = ("ID", "CREATED (UTC)", "TRIGGER", "SORTIES", "SIZE", "NEW", "NAME")
    for line in lines.table(header, rows, width=lines.columns(out)):
        out.write(line)


def detail(data: dict[str, Any], out: OutputWrapper) -> None:
    """Write a checkpoint with the recovery contexts of its missions."""
    width = lines.columns(out)

    def write(line: str, *, indent: str = "") -> None:
        out.write(lines.fitted(indent + lines.one_line(line), width=width))

    title = f"{data['id']}  {data['name']}".rstrip()
    created = f"{datetime.fromisoformat(data['created_at']).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    write(f"{title}  {data['trigger']}  {created}  {lines.size(data['bytes'])}")
    if data["note"]:
        write(data["note"], indent="  ")
    for content in data["contents"]:
        context = content["context"] or {}
        write(f"{content['id']}  {content['name']}  {content['state']}  digest {content['digest'][:16]}")
        if context:
            write(f"{context['summary']} It had run for {humanise.duration(context['elapsed_s'])}.", indent="  ")
            for step in context["next_steps"][:5]:
                write(f"next: {step['sortie']} ({step['agent_type']}, {step['state']})", indent="  ")
            for blocker in context["blockers"][:5]:
                reported = f": {blocker['reported']}" if blocker["reported"] else ""
                write(f"blocked by: {blocker['sortie']} {blocker['state']}{reported}", indent="  ")
            for file in context["files_modified"][:5]:
                write(f"file: {file['path']} of {file['sortie']}", indent="  ")


def recovery_plan(plan: RecoveryPlan, out: OutputWrapper) -> None:
    """Write what a restore would do, and its risks."""
    width = lines.columns(out)
    out.write(
        f"{plan.checkpoint}, {humanise.duration(plan.age_s)} old, {lines.size(plan.bytes)}, format {plan.format}: "
        f"the restore would leave {plan.mission} {plan.state}."
    )
    for name, description in LISTS.items():
        if sorties := getattr(plan, name):
            out.write(lines.fitted(f"  {len(sorties):>6,} {description}: {keys(sorties)}", width=width, indent=9))
    if plan.agents_to_spawn:
        types = ", ".join(plan.agents_to_spawn)
        out.write(f"  Sorties of these agent types would wait, because they have no agent: {types}.")
    for risk in plan.risks:
        out.write(lines.fitted(f"  {risk.level} risk: {risk.message} {risk.mitigation}", width=width))
    out.write(f"  To apply exactly this plan, add --plan {plan.digest}.")


def difference(difference: Difference, out: OutputWrapper) -> None:
    """Write what has changed, one line per part of the mission and per sortie."""
    width = lines.columns(out)
    for name, pair in difference.mission.items():
        out.write(lines.fitted(f"mission {name}: {_values(pair)}", width=width))
    for key in difference.added:
        out.write(f"+ {lines.one_line(key)}")
    for key in difference.removed:
        out.write(f"- {lines.one_line(key)}")
    for change in difference.changed:
        parts = "; ".join(f"{name} {_values(pair)}" for name, pair in change.parts.items())
        out.write(lines.fitted(f"~ {lines.one_line(change.key)}: {parts}", width=width))


def _values(pair: Iterable[Any]) -> str:
    return " → ".join(_shortened(json.dumps(value, ensure_ascii=False)) for value in pair)


def _shortened(value: str) -> str:
    return lines.one_line(value if len(value) <= MAX_VALUE else f"{value[:MAX_VALUE]}…")


def keys(keys: Sequence[str]) -> str:
    """The first keys, and how many more there are."""
    return humanise.shorten_list([lines.one_line(key) for key in keys], MAX_KEYS)
