"""The diff of a sortie or of a whole mission, including work in progress, which is read without disturbing it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet import errors, ids
from missions.models import Change, Mission, Sortie, Workspace
from missions.queries import workspaces
from missions.states import SortieState
from missions.workspaces import copies, git_diffs
from missions.workspaces.git_diffs import Diff
from missions.workspaces.repositories import git, mirrors

MAX_SORTIES = 50  # whose unmerged work the diff of a mission contains
READ_S = 20.0  # for the files that running attempts are changing: a request of the site waits for them
UNCOMMITTED, NONE = "uncommitted", "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class SortieDiff:
    """The work of a sortie. `state` is that of its change, `uncommitted` while an attempt is running, or `none`."""

    sortie: Sortie
    state: str
    attempt: int
    diff: Diff

    def as_json(self) -> dict[str, Any]:
        return {
            "sortie": self.sortie.ref,
            "key": self.sortie.key,
            "attempt": self.attempt,
            "state": self.state,
            **_as_json(self.diff),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class MissionDiff:
    """What has landed on the branch of a mission, and the work that has not, by sortie."""

    workspace: Workspace
    landed: Diff
    unmerged: tuple[SortieDiff, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "mission": ids.encode(ids.MISSION, self.workspace.mission_id),
            "branch": self.workspace.branch,
            **_as_json(self.landed),
            "unmerged": [work.as_json() for work in self.unmerged],
        }


def of_sortie(sortie: Sortie, *, max_bytes: int = git_diffs.MAX_BYTES, binary: bool = False) -> SortieDiff:
    """The work of a sortie: what its running attempt has changed so far, what it has landed, or its last commit.

    Raises NotFound if its mission has no workspace; Conflict if the work was discarded.
    """
    workspace = _require_usable(workspaces.find(sortie.mission))
    return _of_sortie(sortie, workspace, max_bytes=max_bytes, binary=binary, deadline=time.monotonic() + READ_S)


def of_change(change: Change, *, max_bytes: int = git_diffs.MAX_BYTES) -> SortieDiff:
    """What one attempt has committed, or landed. Errors as for `of_sortie`. Its sortie must be loaded."""
    workspace = _require_usable(workspaces.find(change.sortie.mission))
    return _of_change(change, workspace, max_bytes=max_bytes, binary=False)


def of_mission(mission: Mission, *, max_bytes: int = git_diffs.MAX_BYTES, binary: bool = False) -> MissionDiff:
    """The work of a mission. Errors as for `of_sortie`."""
    workspace = _require_usable(workspaces.find(mission))
    mirror = mirrors.of(workspace.repository)
    landed = Diff(base=workspace.base_commit, commit=workspace.base_commit)
    if tip := mirrors.find_tip(mirror, workspace.branch):
        base = _fork_point(mirror, base=workspace.base_commit, tip=tip)
        landed = git_diffs.between(mirror, base=base, commit=tip, max_bytes=max_bytes, binary=binary)
    bytes_left, unmerged = max_bytes - len(landed.patch), []
    deadline = time.monotonic() + READ_S
    for sortie in _unlanded_sorties(mission):
        work = _of_sortie(sortie, workspace, max_bytes=max(bytes_left, 0), binary=binary, deadline=deadline)
        if work.state in (UNCOMMITTED, *Change.UNMERGED):
            unmerged.append(work)
            bytes_left -= len(work.diff.patch)
    return MissionDiff(workspace=workspace, landed=landed, unmerged=tuple(unmerged))


def _fork_point(mirror: Path, *, base: str, tip: str) -> str:
    """The commit of the base that the branch contains: an older one, if other missions created the branch earlier."""
    completed = git.execute("merge-base", base, tip, at=mirror)
    return completed.stdout.decode().strip() if completed.returncode == 0 else base


def _as_json(diff: Diff) -> dict[str, Any]:
    return {
        "base": diff.base,
        "commit": diff.commit,
        "files": [{"path": file.path, "added": file.added, "removed": file.removed} for file in diff.files],
        "patch": diff.text(),
        "truncated": diff.truncated,
    }


def _require_usable(workspace: Workspace) -> Workspace:
    if workspace.discarded_at is not None:
        raise errors.Conflict("The work of this mission has been discarded.")
    git.require()
    return workspace


def _unlanded_sorties(mission: Mission) -> list[Sortie]:
    """The sorties that are running, or whose change is still to be merged."""
    changed = workspaces.unmerged_changes([mission.id]).values("sortie")
    sorties = Sortie.objects.filter(mission=mission)
    selected = sorties.filter(state=SortieState.RUNNING) | sorties.filter(id__in=changed)
    return list(selected.select_related("mission", "brief").order_by("turn", "id")[:MAX_SORTIES])


def _of_sortie(sortie: Sortie, workspace: Workspace, *, max_bytes: int, binary: bool, deadline: float) -> SortieDiff:
    mirror = mirrors.of(workspace.repository)
    change = workspaces.newest_change(sortie.id)
    copy = copies.of(sortie=sortie.id, mirror=mirror)
    if sortie.state == SortieState.RUNNING and _is_editing(sortie, change) and copy.exists:
        diff = git_diffs.of_copy(copy, max_bytes=max_bytes, binary=binary, deadline=deadline)
        return SortieDiff(sortie=sortie, state=UNCOMMITTED, attempt=sortie.attempt, diff=diff)
    if change is None:
        return SortieDiff(sortie=sortie, state=NONE, attempt=sortie.attempt, diff=Diff(base="", commit=""))
    change.sortie = sortie
    return _of_change(change, workspace, max_bytes=max_bytes, binary=binary)


def _of_change(change: Change, workspace: Workspace, *, max_bytes: int, binary: bool) -> SortieDiff:
    base, commit = change.base, change.commit
    if change.state == Change.State.LANDED:
        base, commit = change.onto, change.landed
    mirror = mirrors.of(workspace.repository)
    diff = _between(mirror, base=base, commit=commit, max_bytes=max_bytes, binary=binary)
    return SortieDiff(sortie=change.sortie, state=change.state, attempt=change.attempt, diff=diff)


def _is_editing(sortie: Sortie, change: Change | None) -> bool:
    """Whether the running attempt is still changing its copy, and not merging a change that is already committed."""
    if change is None:
        return True
    return change.attempt != sortie.attempt and change.state not in Change.TO_MERGE


def _between(mirror: Path, *, base: str, commit: str, max_bytes: int, binary: bool) -> Diff:
    try:
        return git_diffs.between(mirror, base=base, commit=commit, max_bytes=max_bytes, binary=binary)
    except git.GitError as error:
        raise errors.NotFound(
            f"The commit {commit[:12]} is not in the fleet's mirror on this host: {error.text[-200:]}"
        ) from error
