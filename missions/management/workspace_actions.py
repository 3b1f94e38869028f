"""`fleet_mission diff|conflicts|resolve|merge|discard`: the work of a mission on its repository."""

from __future__ import annotations

import shlex
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from typing import Any

from fleet import humanise, ids
from fleet.console import invocation, lines
from fleet.management.operator import OperatorCommand
from missions.management import completion
from missions.models import Conflict, Mission, Sortie
from missions.operations.workspaces import diffs, discarding, merging, resolving, unmerged
from missions.operations.workspaces.diffs import MissionDiff, SortieDiff
from missions.operations.workspaces.unmerged import Unmerged
from missions.queries import mission_lookup, sortie_json, workspaces
from missions.states import SortieState
from missions.workspaces.git_diffs import Diff
from missions.workspaces.repositories import mirrors

ACTIONS = ("diff", "conflicts", "resolve", "merge", "discard")
KINDS: dict[str, str] = {
    Conflict.Kind.PREDICTED: "predicted conflict",
    Conflict.Kind.RESERVATION: "conflict of reservations",
    Conflict.Kind.MERGE: "merge conflict",
    Conflict.Kind.VERIFY: "failed verification after the merge",
}
OUTCOMES: dict[str, str] = {
    Conflict.Outcome.OPEN: "not resolved yet",
    Conflict.Outcome.ORDERED: "one waits for the other",
    Conflict.Outcome.REFUSED: "the request was refused",
    Conflict.Outcome.REWORK: "another attempt resolves it",
    Conflict.Outcome.MANUAL: "waited for a person",
    Conflict.Outcome.FAILED: "the sortie failed",
    Conflict.Outcome.RESOLVED: "resolved",
    Conflict.Outcome.DROPPED: "the change was dropped",
}


def add_arguments(action: Callable[[str, str], ArgumentParser]) -> None:
    """Add the actions. `action` creates the parser of an action."""
    diff = action("diff", "show what a mission or one sortie has changed in the repository, including running work")
    conflicts = action("conflicts", "list the conflicts between the sorties of a mission, and how they were resolved")
    resolve = action("resolve", "resolve a conflict that is waiting for a person")
    merge = action("merge", "merge what a mission has landed into a branch of your repository")
    discard = action("discard", "remove the branch, the commits and the copies of a mission that has ended")
    for parser in (diff, conflicts, resolve, merge, discard):
        mission = parser.add_argument("mission", help="its id, the end of its id, or `latest`")
        completion.complete(mission, by=completion.missions)
    sorties = (
        diff.add_argument("sortie", nargs="?", help="only this sortie: its key or id"),
        resolve.add_argument("sortie", help="its key or id"),
    )
    completion.complete(*sorties, by=completion.sorties)
    form = diff.add_mutually_exclusive_group()
    form.add_argument("--stat", action="store_true", help="only list the changed files")
    form.add_argument("--raw", action="store_true", help="print the exact patch, with binary files, for `git apply`")
    decision = resolve.add_mutually_exclusive_group(required=True)
    decision.add_argument("--retry", action="store_true", help="another attempt of the sortie resolves it")
    decision.add_argument(
        "--from", metavar="REF", dest="revision", help="replace its change with this branch or commit of the repository"
    )
    decision.add_argument("--drop", action="store_true", help="drop the change; the sortie is cancelled")
    merge.add_argument("--into", metavar="BRANCH", default="", help="default: the name of the mission's own branch")
    discard.add_argument("--yes", action="store_true", help="remove them")


def act(command: OperatorCommand, mission: Mission, options: dict[str, Any]) -> int:
    sortie = mission_lookup.find_sortie(mission, options["sortie"]) if options.get("sortie") else None
    match options["action"]:
        case "diff":
            return _diff(command, mission, sortie, options)
        case "conflicts":
            return _conflicts(command, mission, options)
        case "resolve":
            assert sortie is not None
            return _resolve(command, mission, sortie, options)
        case "merge":
            return _merge(command, mission, options)
        case _:
            return _discard(command, mission, options)


# ── Diff ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _diff(command: OperatorCommand, mission: Mission, sortie: Sortie | None, options: dict[str, Any]) -> int:
    work: SortieDiff | MissionDiff
    if sortie is not None:
        sortie.mission = mission  # saves a query
        work = diffs.of_sortie(sortie, binary=options["raw"])
        parts = [(sortie.key, work.state, work.diff)]
    else:
        work = diffs.of_mission(mission, binary=options["raw"])
        parts = [(work.workspace.branch, "landed", work.landed)]
        parts += [(part.sortie.key, part.state, part.diff) for part in work.unmerged]
    if options["json"]:
        command.show(work.as_json())
    elif not any(diff.files for _, _, diff in parts):
        command.say("Nothing has been changed." if sortie is None else f"{sortie.key} has changed nothing.")
    else:
        _write_diffs(command, parts, options)
    if any(diff.truncated for _, _, diff in parts):
        command.say("The patch is too long and was truncated.")
    return 0


def _write_diffs(command: OperatorCommand, parts: Sequence[tuple[str, str, Diff]], options: dict[str, Any]) -> None:
    for name, state, diff in parts:
        if not diff.files:
            continue
        count = lines.counted(len(diff.files), "file")
        title = f"{lines.one_line(name)} ({state}): {count}, +{diff.lines_added:,} −{diff.lines_removed:,}"
        if options["stat"]:
            command.stdout.write(title)
            for file in diff.files:
                size = "binary" if file.added is None else f"+{file.added:,} −{file.removed:,}"
                command.stdout.write(f"  {size:>14}  {lines.one_line(file.path)}")
            continue
        command.say(title)
        if options["raw"]:
            sys.stdout.flush()
            sys.stdout.buffer.write(diff.patch)
            sys.stdout.buffer.flush()
        else:
            command.stdout.write(lines.terminal_safe(diff.text()), ending="")


# ── Conflicts ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _conflicts(command: OperatorCommand, mission: Mission, options: dict[str, Any]) -> int:
    rows = list(workspaces.conflicts_of(mission).order_by("created_at", "id"))
    if options["json"]:
        command.show([workspaces.conflict_as_json(row) for row in rows])
        return 0
    width = lines.columns(command.stdout)
    for row in rows:
        command.stdout.write(lines.fitted(_conflict(row), width=width, indent=4))
        if workspaces.waits_for_person(row):
            command.stdout.write(f"    Resolve it: {workspaces.resolve_command(mission.ref, row.sortie.key)}")
            by_hand = invocation.command("fleet_mission", "resolve", mission.ref, row.sortie.key, "--from", "BRANCH")
            workspace = workspaces.find(mission)
            fetch = shlex.join(["git", "fetch", str(mirrors.of(workspace.repository)), workspace.branch])
            command.stdout.write(
                f"    By hand: {fetch}, commit the change on a BRANCH that starts at FETCH_HEAD, then {by_hand}"
            )
    if not rows:
        command.say("There have been no conflicts.")
    return 0


def _conflict(row: Conflict) -> str:
    sortie = row.sortie.key + (f", attempt {row.attempt}" if row.attempt else "")
    others, files = humanise.shorten_list(row.others, 5), humanise.shorten_list(row.files, 5)
    if row.kind == Conflict.Kind.STRAY:
        description = f"changed {files}, which {others or 'another sortie'} has reserved"
    else:
        description = KINDS[row.kind] + (f" with {others}" if others else "") + (f" in {files}" if files else "")
    if workspaces.waits_for_person(row):
        outcome = "waits for a person"
    elif row.outcome == Conflict.Outcome.REWORK and row.sortie.state == SortieState.SUCCEEDED:
        outcome = "another attempt has resolved it"
    else:
        outcome = OUTCOMES[row.outcome]
    by = f" (decided by {row.by})" if row.by else ""
    return lines.one_line(f"{row.created_at:%Y-%m-%d %H:%M:%S} UTC  {sortie}: {description}; {outcome}{by}")


def _resolve(command: OperatorCommand, mission: Mission, sortie: Sortie, options: dict[str, Any]) -> int:
    if options["revision"] is not None:
        row = resolving.replace(sortie=sortie.id, revision=options["revision"], by=None, can_execute=True)
        message = f"{options['revision']} replaces the change of {row.key}, and is merged next."
    elif options["drop"]:
        row = resolving.drop(sortie=sortie.id)
        message = f"The change of {row.key} is dropped, and the sortie cancelled."
    else:
        row = resolving.retry(sortie=sortie.id, can_execute=True)
        message = f"{row.key} is {row.state}: its next attempt resolves the conflict."
    if options["json"]:
        command.show(sortie_json.of_sortie(row, visible=Mission.objects.all()))
    else:
        command.say(message)
    return 0


# ── Merge and discard ────────────────────────────────────────────────────────────────────────────────────────────────


def _merge(command: OperatorCommand, mission: Mission, options: dict[str, Any]) -> int:
    merged = merging.merge(mission=mission.id, into=options["into"])
    waiting = list(workspaces.unmerged_changes([mission.id]))
    if options["json"]:
        command.show({"mission": mission.ref, **merged.as_json()})
        return 0
    branch, commit = f"branch {merged.branch}", merged.commit[:12]
    match merged.outcome:
        case "created":
            command.say(f"Created the {branch} in {merged.repository}, with the mission's work ({commit}).")
        case "fast-forwarded":
            command.say(f"Moved the {branch} in {merged.repository} forward to the mission's work ({commit}).")
        case "merged":
            command.say(f"Merged the mission's work into the {branch} in {merged.repository} ({commit}).")
        case _:
            command.say(f"The {branch} in {merged.repository} already contains the mission's work ({commit}).")
    if waiting:
        keys = humanise.shorten_list([lines.one_line(change.sortie.key) for change in waiting], 5)
        command.say(f"The work of {keys} is not in it, because it has not landed yet.")
    return 0


def _discard(command: OperatorCommand, mission: Mission, options: dict[str, Any]) -> int:
    workspace = discarding.require_discardable(mission)
    discarded = workspace.discarded_at is not None
    unmerged_work = discarding.discard(mission=mission.id) if options["yes"] else unmerged.of_mission(mission.id)
    if options["json"]:
        command.show({"mission": mission.ref, "discarded": options["yes"], "unmerged": unmerged_work.as_json()})
        return 0
    if discarded:
        command.say(f"The work of {mission.ref} was already discarded.")
        return 0
    _write_unmerged(command, unmerged_work)
    if options["yes"]:
        command.say(f"The work of {mission.ref} is discarded.")
    else:
        discard = invocation.command("fleet_mission", "discard", mission.ref, "--yes")
        shared = discarding.is_shared(workspace)
        note = f" {lines.one_line(workspace.branch)} stays, because another mission uses it." if shared else ""
        targets = "Its commits and copies" if shared else "Its branch, commits and copies"
        command.say(f"{targets} would be removed.{note} Remove them: {discard}")
    return 0


def _write_unmerged(command: OperatorCommand, unmerged_work: Unmerged) -> None:
    if not unmerged_work:
        command.say("All of its work is merged.")
        return
    command.say("This work is not in your repository:")
    for commit in unmerged_work.commits:
        command.stdout.write(f"  {commit['commit'][:12]}  {lines.one_line(commit['subject'])}")
    for change in unmerged_work.changes:
        command.stdout.write(
            f"  {change.commit[:12]}  {lines.one_line(change.sortie.key)}: {change.state}, "
            f"{lines.counted(change.number_of_files, 'file')} ({ids.encode(ids.SORTIE, change.sortie_id)})"
        )
