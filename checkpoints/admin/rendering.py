"""Recovery contexts, recovery plans, differences and links to missions as HTML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from checkpoints.operations import Difference, MissionRestoreResult
from checkpoints.queries import bounds
from checkpoints.recovery.context import Context
from checkpoints.recovery.plan import LISTS, RecoveryPlan
from checkpoints.recovery.risks import Level
from fleet import humanise, ids
from fleet.admin.pages import span
from missions.admin import rendering
from missions.models import Mission

MAX_KEYS = 12  # in one line
MAX_ROWS = 100  # of a difference
MAX_VALUE = 200  # characters of a changed value
MAX_ACTIONS = 8

_COLOURS = {Level.LOW: "#6b7280", Level.MEDIUM: "#b45309", Level.HIGH: "#b91c1c", Level.BLOCKING: "#b91c1c"}


def choices(row: Any, mission: str) -> SafeString:
    """Links for one of several missions: to its plan and changes, its restore and its fork."""
    is_selected = row.selected_mission is not None and ids.encode(ids.MISSION, row.selected_mission) == mission
    pages = [] if is_selected else [("change", "show")]
    if row.may_start:
        pages += [("restore_button", "restore"), ("fork_button", "fork")]
    links = ((reverse(f"admin:checkpoints_checkpoint_{page}", args=[row.id]), mission, label) for page, label in pages)
    return format_html(
        '<span style="white-space: nowrap">{}{}</span>',
        "shown below · " if is_selected else "",
        format_html_join(
            " · ", '<a href="{}?mission={}" class="text-link" style="text-decoration: underline">{}</a>', links
        ),
    )


def mission_link(id: UUID, mission: Mission | None, name: str = "") -> SafeString | str:
    """A link to a mission if it has rows, otherwise its name or id."""
    if mission is None:
        return f"{name or ids.encode(ids.MISSION, id)} (removed)"
    return rendering.link(mission, mission.name)


def replaced(restored: MissionRestoreResult) -> SafeString | None:
    """Where to find the state that a restore has replaced; None if there was none."""
    if restored.safety is None:
        return None
    branch = f" Its branch before the restore is kept as {restored.replaced}." if restored.replaced else ""
    link = rendering.link(restored.safety, restored.safety.ref)
    return format_html("The replaced state is in {}.{}", link, branch)


def context(context: Context) -> SafeString:
    """The recovery context of one mission. `reported` is text that agents wrote."""
    lists = (
        ("Next steps", ("sortie", "agent type", "state", "reported"), context["next_steps"],
         ("sortie", "agent_type", "state", "reported")),
        ("Blockers", ("sortie", "state", "reason", "reported"), context["blockers"],
         ("sortie", "state", "reason", "reported")),
        ("Last actions", ("at (UTC)", "action", "sortie"), context["last_actions"][:MAX_ACTIONS], ("at", "kind", "sortie")),
        ("Files", ("file", "sortie"), context["files_modified"], ("path", "sortie")),
    )  # fmt: skip
    parts = [
        format_html('<h4 style="font-weight: 600; margin-top: 1em">{}</h4>{}', title, _table(titles, rows, names))
        for title, titles, rows, names in lists
        if rows
    ]
    return format_html(
        "<p>{} It had run for {}.</p>{}", context["summary"], span(context["elapsed_s"]),
        format_html_join("", "{}", ((part,) for part in parts)),
    )  # fmt: skip


def _table(titles: Sequence[str], rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> SafeString:
    return rendering.table(titles, ([_cell(name, row.get(name)) for name in names] for row in rows))


def _cell(name: str, value: Any) -> str:
    if name == "at":
        return str(value)[:19].replace("T", " ")
    return "–" if value in (None, "") else str(value)


def recovery_plan(plan: RecoveryPlan) -> SafeString:
    """What a restore would do, and its risks."""
    rows = [
        (f"{len(keys):,}", description, first_keys(keys))
        for name, description in LISTS.items()
        if (keys := getattr(plan, name))
    ]
    types = ", ".join(plan.agents_to_spawn)
    return format_html(
        "<p>The restore would leave the mission <b>{}</b>.</p>{}{}<h4 style='font-weight: 600; margin-top: 1em'>Risks</h4>{}",
        plan.state,
        rendering.table(("number", "what would happen", "sorties"), rows) if rows else "",
        format_html("<p>Sorties of these agent types would wait, because they have no agent: {}.</p>", types)
        if types
        else "",
        _risks(plan) if plan.risks else "None.",
    )


def _risks(plan: RecoveryPlan) -> SafeString:
    return rendering.table(
        ("level", "risk", "mitigation"),
        (
            (
                format_html('<b style="color: {}">{}</b>', _COLOURS[risk.level], risk.level.value),
                risk.message,
                risk.mitigation,
            )
            for risk in plan.risks
        ),
    )


def difference(difference: Difference) -> SafeString:
    """What has changed: one row per sortie that was added or removed, and per part of a sortie that has changed."""
    if difference.empty:
        return SafeString("Nothing has changed.")
    data = bounds.difference(difference)
    rows: list[tuple[str, str, str, str]] = _rows("the mission", data["mission"], data["omitted"])
    rows += [(key, "added", "", "") for key in data["added"][:MAX_ROWS]]
    rows += [(key, "removed", "", "") for key in data["removed"][:MAX_ROWS]]
    for change in data["changed"][:MAX_ROWS]:
        rows += _rows(change["key"], change["parts"], change["omitted"])
    counts = data["counts"]
    summary = ", ".join(f"{number:,} {name}" for name, number in counts.items() if number)
    return format_html(
        "{}{}{}",
        format_html("<p>Sorties: {}.</p>", summary) if summary else "",
        rendering.table(("sortie", "part", "before", "after"), rows[:MAX_ROWS]),
        format_html("<p>Only the first {} rows are shown.</p>", MAX_ROWS) if len(rows) > MAX_ROWS else "",
    )


def _rows(key: str, parts: Mapping[str, Sequence[Any]], omitted: Sequence[str]) -> list[tuple[str, str, str, str]]:
    """The rows of one sortie; only the first row has its key."""
    rows = [("", name, *map(_value, pair)) for name, pair in parts.items()]
    rows += [("", name, "(not shown)", "(not shown)") for name in omitted]
    return [(key, *rows[0][1:]), *rows[1:]] if rows else []  # type: ignore[list-item]


def _value(value: Any) -> str:
    displayed = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    return displayed if len(displayed) <= MAX_VALUE else f"{displayed[:MAX_VALUE]}…"


def first_keys(keys: Sequence[str]) -> str:
    """The first keys, and how many more there are."""
    return humanise.shorten_list(keys, MAX_KEYS)
