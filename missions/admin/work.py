"""Helpers of the pages that show work on a repository: sizes, diffs, conflicts, links."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TypeVar

from django.db.models import Model
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from fleet import errors
from fleet.console import invocation, lines
from missions.admin import rendering
from missions.models import Change, Mission, Sortie
from missions.operations.workspaces import diffs
from missions.queries import workspaces
from missions.workspaces.git_diffs import Diff

Row = TypeVar("Row", bound=Model)

DIFF_BYTES = 200_000  # of the diffs on one page
DIFF_LINES = 2_000
# Readable on a light and on a dark page.
_STYLES = {"+": "color: #16a34a", "-": "color: #dc2626", "@": "color: #0891b2", "d": "font-weight: bold"}


def size(change: Change) -> str:
    """`2 files (+9 −1)`"""
    if not change.number_of_files:
        return f"no change: {change.no_change}" if change.no_change else "no change"
    return f"{lines.counted(change.number_of_files, 'file')} (+{change.lines_added:,} −{change.lines_removed:,})"


def abbreviated(names: Sequence[str]) -> str:
    """The first five names, and how many more there are."""
    more = len(names) - 5
    return ", ".join(names[:5]) + (f" and {more:,} more" if more > 0 else "") or "–"


def work_lists(mission: str) -> SafeString:
    """Links to the changes and conflicts of a mission."""
    return format_html(
        "{} · {}",
        rendering.list_link("missions_change", "changes", q=mission),
        rendering.list_link("missions_conflict", "conflicts", q=mission),
    )


def changes(sortie: Sortie) -> SafeString:
    """The changes of a sortie's attempts."""
    return rendering.table(
        ("commit", "attempt", "state", "files"),
        (
            (rendering.link(change, change.commit[:12]), change.attempt, change.state, size(change))
            for change in sortie.changes.order_by("attempt")
        ),
    )


def conflicts(sortie: Sortie) -> SafeString:
    """The conflicts of a sortie. If one waits for a person, also the command that resolves it."""
    rows = list(sortie.conflicts.order_by("created_at", "id"))
    table = rendering.table(
        ("conflict", "attempt", "with", "in", "outcome"),
        (
            (
                rendering.link(row, row.kind),
                "–" if row.attempt is None else row.attempt,
                abbreviated(row.others),
                abbreviated(row.files),
                f"{workspaces.conflict_status(row)}{f' by {row.by}' if row.by else ''}",
            )
            for row in rows
        ),
    )
    if not any(map(workspaces.waits_for_person, rows)):
        return table
    command = workspaces.resolve_command(sortie.mission.ref, sortie.key)
    return format_html("{}<p>Resolve it: <code>{}</code></p>", table, command)


def _computed_once(function: Callable[[Row], SafeString]) -> Callable[[Row], SafeString]:
    """Compute the diff of a row once: a page asks for the value of each of its fields five times."""

    @functools.wraps(function)
    def remembered(row: Row) -> SafeString:
        diff: SafeString | None = row.__dict__.get("_diff_for_page")
        if diff is None:
            diff = row.__dict__["_diff_for_page"] = function(row)
        return diff

    return remembered


@_computed_once
def diff_of_mission(mission: Mission) -> SafeString:
    """What has landed on a mission's branch, and the work that has not landed."""
    try:
        work = diffs.of_mission(mission, max_bytes=DIFF_BYTES)
    except errors.FleetError as error:
        return format_html("{}", error)
    parts = [(f"{work.workspace.branch}: landed", work.landed)]
    parts += [(f"{unmerged.sortie.key}: {unmerged.state}", unmerged.diff) for unmerged in work.unmerged]
    return _diffs(parts, mission=mission)


@_computed_once
def diff_of_sortie(sortie: Sortie) -> SafeString:
    """The work of a sortie: what it has landed, its last commit, or what it has changed so far."""
    try:
        work = diffs.of_sortie(sortie, max_bytes=DIFF_BYTES)
    except errors.FleetError as error:
        return format_html("{}", error)
    return _diffs([(work.state, work.diff)], mission=sortie.mission, sortie=sortie.key)


@_computed_once
def diff_of_change(change: Change) -> SafeString:
    try:
        work = diffs.of_change(change, max_bytes=DIFF_BYTES)
    except errors.FleetError as error:
        return format_html("{}", error)
    return _diffs([(work.state, work.diff)], mission=change.sortie.mission, sortie=change.sortie.key)


def _diffs(parts: Sequence[tuple[str, Diff]], *, mission: Mission, sortie: str = "") -> SafeString:
    blocks = [(title, _patch(diff, mission=mission, sortie=sortie)) for title, diff in parts if diff.files]
    return format_html_join("", "<p><b>{}</b></p>{}", blocks) or SafeString("–")


def _patch(diff: Diff, *, mission: Mission, sortie: str) -> SafeString:
    text = lines.terminal_safe(diff.text()).splitlines()
    rows = ((_STYLES.get(line[:1], ""), line) for line in text[:DIFF_LINES])
    body = format_html_join("\n", '<span style="{}">{}</span>', rows)
    rest: SafeString | str = ""
    if diff.truncated or len(text) > DIFF_LINES:
        command = invocation.command("fleet_mission", "diff", mission.ref, *([sortie] if sortie else []))
        rest = format_html("<p>Only the beginning is shown. Show all of it: <code>{}</code></p>", command)
    style = "white-space: pre-wrap; overflow-wrap: anywhere; font-family: monospace; font-size: .85em"
    return format_html('<pre style="{}">{}</pre>{}', style, body, rest)
