"""A person resolves a conflict: by another attempt, by a version of their own, or by dropping the change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from django.contrib.auth.models import User
from django.db import connection, transaction

from fleet import audit, caller, errors, ids
from fleet.console import invocation
from fleet.events.models import Event
from fleet.postgres import statements
from missions.models import Change, Conflict, Sortie, WaitsOn, Workspace
from missions.operations import cancelling, permissions
from missions.queries import workspaces
from missions.states import SortieState, predicate
from missions.workspaces import branches, conflicts, git_diffs
from missions.workspaces.repositories import git, mirrors


def retry(*, sortie: UUID, can_execute: bool) -> Sortie:
    """Let another attempt of the sortie resolve its conflict. This costs no try.

    Raises Conflict unless the sortie waits for a person; Forbidden if the caller may not start the mission's code.
    """
    with _decision(sortie, can_execute=can_execute) as (row, _):
        _close(row, outcome=Conflict.Outcome.REWORK, decision="retry")
        _continue(row, why="a person decided: another attempt resolves the conflict")
    return _read(sortie)


def replace(*, sortie: UUID, revision: str, by: User | None, can_execute: bool) -> Sortie:
    """Take a branch, tag or commit of the user's repository as the resolved version of the sortie's change.

    It must merge with the branch of the mission, and is verified like any other change when it lands. `by` is None for
    the host's operator. Raises Forbidden if the caller may not put code of their own into the mission; Invalid if the
    revision does not exist; Conflict if it does not merge, or as for `retry`.
    """
    row = Sortie.objects.select_related("mission").get(id=sortie)
    permissions.require_for_own_change(mission=row.mission, by=by, can_execute=can_execute)
    workspace = workspaces.find(row.mission)
    change = _conflicted(row)
    mirror = mirrors.of(workspace.repository)
    ref = f"{mirrors.ATTEMPTS}/{row.ref}/{change.attempt}-resolved"
    commit = mirrors.fetch(workspace.repository, revision=revision, to=ref)
    base = _merge_base(workspace, commit)
    diff = git_diffs.between(mirror, base=base, commit=commit, max_bytes=0)
    with _decision(sortie, can_execute=can_execute) as (row, change):
        Change.objects.filter(id=change.id).update(
            state=Change.State.COMMITTED,
            base=base,
            commit=commit,
            files=[file.path for file in diff.files[:1_000]],
            number_of_files=len(diff.files),
            lines_added=diff.lines_added,
            lines_removed=diff.lines_removed,
        )
        _close(row, outcome=Conflict.Outcome.RESOLVED, decision="replace", revision=revision, commit=commit)
        _continue(row, why="a person resolved the conflict")
    return _read(sortie)


def drop(*, sortie: UUID) -> Sortie:
    """Drop the change: the sortie is cancelled, and those that need it are skipped. Its commit is kept in the mirror.

    Raises Conflict as for `retry`.
    """
    with _decision(sortie, can_execute=True) as (row, change):
        Change.objects.filter(id=change.id).update(state=Change.State.KEPT)
        _close(row, outcome=Conflict.Outcome.DROPPED, decision="drop", commit=change.commit)
        cancelling.cancel_sortie(sortie=sortie, reason="its change was dropped")
    return _read(sortie)


@contextmanager
def _decision(sortie: UUID, *, can_execute: bool) -> Iterator[tuple[Sortie, Change]]:
    """A transaction in which the sortie is locked and waits for a person to decide about the change."""
    with transaction.atomic():
        row = Sortie.objects.select_for_update(of=("self",), no_key=True).select_related("mission").get(id=sortie)
        permissions.require_for_mission(mission=row.mission_id, can_execute=can_execute)
        yield row, _conflicted(row)


def _conflicted(row: Sortie) -> Change:
    change = workspaces.newest_change(row.id)
    waits = row.state == SortieState.WAITING and row.waits_on == WaitsOn.PERSON
    if not waits or change is None or change.state != Change.State.CONFLICTED:
        raise errors.Conflict(
            f"{row.key} has no conflict that waits for a person. It {predicate(row.state)}.",
            hint=f"See: {invocation.command('fleet_mission', 'conflicts', row.mission.ref)}",
            over_http=f"See GET /api/v1/missions/{row.mission.ref}/conflicts.",
        )
    return change


def _merge_base(workspace: Workspace, commit: str) -> str:
    """The common ancestor of the resolved version and the branch. Raises Conflict if they do not merge."""
    mirror = mirrors.of(workspace.repository)
    tip = mirrors.tip(mirror, workspace.branch, start=workspace.base_commit)
    base = git.execute("merge-base", tip, commit, at=mirror)
    if base.returncode:
        raise errors.Conflict(f"{commit[:12]} has no history in common with {workspace.branch}.")
    merged = branches.merge(mirror, onto=tip, commit=commit)
    if not merged.clean:
        files = ", ".join(map(git.printable, merged.files[:5]))
        raise errors.Conflict(
            f"{commit[:12]} conflicts with {workspace.branch} too, in {files}.",
            hint=f"Merge the branch into it first: git pull {mirror} {workspace.branch}",
            over_http="Merge the branch of the mission into it first (POST missions/{id}/merge creates it).",
        )
    return base.stdout.decode().strip()


def _close(row: Sortie, *, outcome: Conflict.Outcome, decision: str, **facts: str) -> None:
    conflicts.close(sortie=row.id, outcome=outcome, by=caller.current().name)
    audit.record(kind="sortie.resolve", subject=row.ref, after={"decision": decision, "outcome": outcome, **facts})
    Event.objects.create(
        kind="sortie.resolved",
        scope=row.mission_id,
        subject=row.id,
        data={"decision": decision, "outcome": outcome, **facts},
    )


def _continue(row: Sortie, *, why: str) -> None:
    """Make the sortie ready, for the control loop to admit it."""
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions.operations.workspaces", "resolve"), {"sortie": row.id, "why": why})
        if not cursor.rowcount:
            raise errors.Conflict(f"{ids.encode(ids.SORTIE, row.id)} no longer waits for a person.")


def _read(sortie: UUID) -> Sortie:
    return Sortie.objects.select_related("mission").get(id=sortie)
