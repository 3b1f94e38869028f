"""The workspace of a mission in a checkpoint: its lines, the commits that they need, and uncommitted work.

The lines of a mission and of its sorties get one more part, `workspace`. Nothing here is called for missions without a
workspace. docs/checkpoints.md describes the parts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection

from checkpoints.files.loading import SavedMission
from checkpoints.recovery.risks import WorkspaceFacts
from fleet import errors, ids
from fleet.postgres import clock, statements
from missions.engine.settlement import insertion
from missions.models import Change, Reservation, Sortie, Workspace
from missions.plan import SortieSpec, globs
from missions.workspaces import copies, moving, reservations, uncommitted
from missions.workspaces.commits import Message
from missions.workspaces.repositories import git, mirrors
from missions.workspaces.reservation_index import ReservationIndex, ReservedPattern

IN_DIGEST = ("repository", "base", "base_commit", "setup", "verify", "conflicts", "reworks")
LANDED = (Change.State.LANDING, Change.State.LANDED)
THREADS = 4

_PART = ',"workspace":'


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentWorkspace:
    """The current workspace of a mission: its row, the tip of its branch, and the `workspace` parts of its sorties."""

    row: Workspace
    tip: str
    lines: Mapping[str, tuple[str | None, str]]  # by key: of the state and of the kept line


def read(mission: UUID) -> CurrentWorkspace | None:
    """Read the workspace of a mission; None if it has none."""
    row = Workspace.objects.filter(mission=mission).first()
    if row is None:
        return None
    changes = Change.objects.filter(sortie__mission=mission, state__in=LANDED).values_list("landed", "onto")
    landed = {commit for pair in changes for commit in pair if commit}
    with connection.cursor() as cursor:
        cursor.execute(statements.read("checkpoints.rows", "workspace_rows"), {"mission": mission})
        lines = {key: (state, kept) for key, state, kept in cursor.fetchall()}
    return CurrentWorkspace(row=row, tip=moving.tip(row, landed=landed), lines=lines)


def mission_lines(workspace: CurrentWorkspace, state: str, kept: str) -> tuple[str, str]:
    """The two lines of a mission with its workspace."""
    row = workspace.row
    return append_part(state, {**{name: getattr(row, name) for name in IN_DIGEST}, "tip": workspace.tip}), _with_part(
        kept, json.dumps({"branch": row.branch, "discarded": row.discarded_at is not None}, ensure_ascii=False)
    )


def sortie_lines(workspace: CurrentWorkspace, key: str, state: str, kept: str) -> tuple[str, str]:
    """The two lines of a sortie with its `workspace` parts."""
    own_state, own_kept = workspace.lines.get(key, (None, None))
    return _with_part(state, own_state), _with_part(kept, own_kept)


def with_uncommitted(workspace: CurrentWorkspace, key: str, kept: str, work: Mapping[str, Any]) -> str:
    """The kept line of a running sortie with its uncommitted work."""
    _, own = workspace.lines.get(key, (None, None))
    if own is not None:  # cut off as text, because the rest of the line keeps its exact form
        kept = kept.removesuffix(f"{_PART}{own}}}") + "}"
    return _with_part(kept, json.dumps({**json.loads(own or "{}"), "uncommitted": work}, ensure_ascii=False))


def _with_part(line: str, part: str | None) -> str:
    return line if part is None else f"{line[:-1]}{_PART}{part}}}"


def append_part(line: str, part: Mapping[str, Any]) -> str:
    """A line that has no workspace, with this part."""
    return _with_part(line, json.dumps(part, ensure_ascii=False))


def save_uncommitted(
    *, checkpoint: str, workspace: CurrentWorkspace, mission: UUID, sorties: Mapping[str, UUID], deadline: float
) -> dict[str, dict[str, Any]]:
    """Store the uncommitted work of running sorties under refs of a checkpoint; returns its description by key.

    The description has `fault` instead of a commit if the work cannot be read, for example because its attempt is just
    ending, or if it is not read by `deadline`.
    """
    mirror = mirrors.of(workspace.row.repository)
    attempts = dict(Sortie.objects.filter(id__in=sorties.values()).values_list("id", "attempt"))
    committed = {key for key, (state, _) in workspace.lines.items() if state and _is_committed(json.loads(state))}
    copies_by_key = {key: copies.of(sortie=id, mirror=mirror) for key, id in sorties.items() if id in attempts}

    def save(key: str) -> dict[str, Any]:
        sortie = ids.encode(ids.SORTIE, sorties[key])
        attempt = attempts[sorties[key]]
        trailers = {
            "Fleet-Mission": ids.encode(ids.MISSION, mission),
            "Fleet-Sortie": f"{key} {sortie}",
            "Fleet-Attempt": str(attempt),
            "Fleet-Checkpoint": checkpoint,
        }
        message = Message(author="fleet", subject=f"Uncommitted work of {key}", trailers=trailers)
        try:
            work = uncommitted.save(
                copies_by_key[key],
                message=message,
                ref=moving.checkpoint_ref(checkpoint, sortie),
                max_bytes=settings.FLEET_COMMIT_BYTES,
                deadline=deadline,
            )
        except (errors.FleetError, OSError) as error:
            return {"attempt": attempt, "fault": str(error)[:300]}
        return {
            "attempt": attempt,
            "base": work.base,
            "commit": work.commit,
            "ignored": list(work.ignored),
            "left_out": list(work.left_out),
        }

    keys = [key for key, copy in copies_by_key.items() if copy.exists and key not in committed]
    with ThreadPoolExecutor(THREADS) as threads:
        return dict(zip(keys, threads.map(save, keys), strict=True))


def _is_committed(state: Mapping[str, Any]) -> bool:
    """Whether the work of a sortie is committed, so that its attempt only merges."""
    return any(change["state"] in Change.TO_MERGE for change in state["changes"])


def keep_commits(*, checkpoint: str, mission: UUID, workspace: CurrentWorkspace) -> None:
    """Keep the commits that a checkpoint needs, under refs of it: the tip of the branch, and work that no branch has.

    Raises Unavailable if git fails, for example on a full disk.
    """
    mirror = mirrors.of(workspace.row.repository)
    if not (mirror / "HEAD").exists():
        return  # nothing has started: the base is in the user's repository
    parts = [(json.loads(state or "{}"), json.loads(kept)) for state, kept in workspace.lines.values()]
    commits = {f"kept/{commit}": commit for commit in needed_commits(parts)}
    commits[ids.encode(ids.MISSION, mission)] = workspace.tip
    try:
        moving.keep(mirror, {moving.checkpoint_ref(checkpoint, name): commit for name, commit in commits.items()})
    except git.GitError as error:
        raise errors.Unavailable(f"The commits of the checkpoint could not be kept: {error.text[-300:]}") from error


def release_commits(*, checkpoint: str, repository: str) -> None:
    """Delete the refs of a checkpoint that was not written, as far as that is possible now; `prune` does the rest."""
    with suppress(errors.FleetError):
        moving.release(mirrors.of(repository), checkpoint=checkpoint)


def put_back(saved: SavedMission, *, mission: UUID, replaced: str, branch: str = "") -> None:
    """Put back a workspace after its sorties (`checkpoint_target`), in the caller's transaction.

    `replaced` is the ref that keeps the current tip of the branch. A new mission has `branch` instead. The branch itself is moved
    after the commit (`complete`).
    """
    if not saved.has_workspace:
        return
    state, kept = saved.mission_state["workspace"], saved.mission_kept["workspace"]
    put_back_parts(state, {**kept, "branch": branch or kept["branch"]}, mission=mission, replaced=replaced)
    keep_unmerged(mission, repository=state["repository"])  # the checkpoint, which keeps them too, may be deleted


def put_back_parts(state: Mapping[str, Any], kept: Mapping[str, Any], *, mission: UUID, replaced: str) -> None:
    """Like `put_back`, from the `workspace` parts of the mission's two lines, but without the refs of unmerged work."""
    Workspace.objects.update_or_create(
        mission_id=mission,
        defaults={
            **{name: state[name] for name in IN_DIGEST},
            "branch": kept["branch"],
            "restore_to": state["tip"],
            "restore_ref": replaced,
            "discarded_at": clock.now() if kept["discarded"] else None,
        },
    )
    with connection.cursor() as cursor:
        for name in ("workspace_clear", "workspace_put_back"):
            cursor.execute(statements.read("checkpoints.rows", name))


def replace_reservations(specs: Iterable[SortieSpec], *, mission: UUID) -> None:
    """Give sorties with a new spec the reservations that it requests, in the caller's transaction."""
    edited = {spec.key: spec for spec in specs}
    sorties = dict(Sortie.objects.filter(mission=mission, key__in=edited).values_list("key", "id"))
    Reservation.objects.filter(sortie__in=sorties.values()).delete()
    with connection.cursor() as cursor:
        insertion.reserve(cursor.cursor, mission=mission, specs=[edited[key] for key in sorties], sorties=sorties)


def keep_unmerged(mission: UUID, *, repository: str) -> None:
    """Keep the commits of a mission that no branch has, under refs of its sorties."""
    with connection.cursor() as cursor:
        cursor.execute(statements.read("checkpoints.rows", "workspace_commits"), {"mission": mission})
        commits = {
            f"{mirrors.ATTEMPTS}/{ids.encode(ids.SORTIE, sortie)}/{name}": commit
            for sortie, name, commit in cursor.fetchall()
        }
    moving.keep(mirrors.of(repository), commits)


def facts(saved: SavedMission) -> WorkspaceFacts:
    """What a restore of the workspace depends on."""
    state, branch = saved.mission_state["workspace"], saved.mission_kept["workspace"]["branch"]
    mirror = mirrors.of(state["repository"])
    parts = (
        (json.loads(line).get("workspace", {}), json.loads(saved.kept[key]).get("workspace", {}))
        for key, line in saved.state.items()
        if _PART in line or _PART in saved.kept[key]
    )
    needed = needed_commits(parts) | ({state["tip"]} - {state["base_commit"]})
    others = Workspace.objects.filter(repository=state["repository"], branch=branch).exclude(mission=saved.id)
    owner = saved.mission_kept["owner"]  # None: the operator, who may change all missions
    same_owner = others if owner is None else others.filter(mission__created_by__username=owner)
    return WorkspaceFacts(
        branch=branch,
        tip=state["tip"],
        commits_removed=moving.commits_after(mirror, branch=branch, commit=state["tip"]),
        missing_commits=len(moving.missing(mirror, needed)),
        shared_with=set(same_owner.values_list("mission__name", flat=True)),
        foreign=others.count() > same_owner.count(),
        reserved=_reserved_by_others(saved, (state["repository"], branch)),
    )


def _reserved_by_others(saved: SavedMission, branch: tuple[str, str]) -> frozenset[str]:
    """The unfinished sorties whose files another mission has reserved now."""
    index = ReservationIndex()
    for _, reservation in reservations.in_force([branch]):
        if reservation.mission != saved.id:
            index.add(reservation)
    keys = set()
    for key, line in saved.state.items():
        state = json.loads(line) if _PART in line else {}
        if state.get("state") not in ("pending", "due"):
            continue
        for row in state["workspace"]["reservations"]:
            pattern = globs.parse(row["pattern"])
            own = ReservedPattern(sortie=saved.id, mission=saved.id, key=key, pattern=pattern, shared=row["shared"])
            if index.find_conflict(own) is not None:
                keys.add(key)
    return frozenset(keys)


def complete(mission: UUID) -> bool:
    """Move the branch of a restored or forked mission. False if that failed: the control loop tries again."""
    try:
        for workspace in Workspace.objects.filter(mission=mission):
            moving.complete(workspace)
    except errors.FleetError:
        return False
    return True


def with_part(line: str, part: Mapping[str, Any] | None) -> str:
    """A line with this `workspace` part instead of its own. Raises ValueError if its own is not where a fleet writes it."""
    head, separator, own = line.rpartition(_PART)
    if not separator or json.loads(own[:-1]) != json.loads(line)["workspace"]:
        raise ValueError
    return f"{head}}}" if part is None else append_part(f"{head}}}", part)


def exported_commits(
    state: Mapping[str, Any], parts: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]
) -> set[str]:
    """The commits without which a mission cannot continue elsewhere, except its base.

    `state` is the `workspace` part of the mission, `parts` are those of the two lines of its sorties.
    """
    commits = {state["tip"]}
    for sortie, kept in parts:
        for change in sortie.get("changes", ()):
            if change["state"] != Change.State.LANDED:
                commits |= {change["base"], change["commit"]}
        uncommitted = kept.get("uncommitted") or {}
        if "commit" in uncommitted:
            commits |= {uncommitted["base"], uncommitted["commit"]}
    return commits - {state["base_commit"]}


def needed_commits(parts: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> set[str]:
    """The commits that sorties need and no branch has, from the `workspace` parts of their two lines."""
    commits = set()
    for state, kept in parts:
        commits |= {change["commit"] for change in state.get("changes", ()) if change["state"] != Change.State.LANDED}
        commits |= {(kept.get("uncommitted") or {}).get("commit")} - {None}
    return commits
