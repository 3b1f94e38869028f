"""What would be lost if the work of a mission were removed from the fleet's mirror."""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from fleet import errors
from missions.models import Change, Workspace
from missions.operations.workspaces import merging
from missions.queries import workspaces
from missions.workspaces import branches
from missions.workspaces.repositories import git, local_repositories, mirrors, sources

MAX_COMMITS = 50  # that are listed


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmerged:
    """Commits of a mission's branch that no branch of the user contains, and changes that never landed."""

    mission: UUID
    branch: str
    commits: tuple[dict[str, str], ...] = ()  # sortie, commit and subject; the newest first
    changes: tuple[Change, ...] = field(default=())

    def __bool__(self) -> bool:
        return bool(self.commits or self.changes)

    def as_json(self) -> dict[str, Any]:
        return {
            "branch": self.branch,
            "commits": list(self.commits),
            "changes": [{"sortie": change.sortie.key, **workspaces.change_as_json(change)} for change in self.changes],
        }


def of_mission(mission: UUID) -> Unmerged:
    """The unmerged work of a mission; nothing if it has no workspace or its work was discarded."""
    workspace = Workspace.objects.filter(mission=mission, discarded_at=None).first()
    if workspace is None:
        return Unmerged(mission=mission, branch="")
    mirror = mirrors.of(workspace.repository)
    tip = mirrors.find_tip(mirror, workspace.branch)
    commits: tuple[dict[str, str], ...] = ()
    if tip and tip != workspace.base_commit and not _is_merged(workspace, mirror, tip):
        rows = branches.landed_since(mirror, base=workspace.base_commit, tip=tip, limit=MAX_COMMITS)
        # The user may have merged an earlier state of the branch. Whatever precedes a merged commit is merged.
        number = bisect.bisect_left(rows, True, lo=1, key=lambda row: _is_merged(workspace, mirror, row["commit"]))
        rows = rows[:number]
        commits = tuple({**row, "sortie": row["sortie"].partition(" ")[0]} for row in rows)
    return Unmerged(
        mission=mission,
        branch=workspace.branch,
        commits=commits,
        changes=tuple(workspaces.unmerged_changes([mission])),
    )


def of_missions(missions: Iterable[UUID]) -> list[Unmerged]:
    """The unmerged work of each of these missions that has any."""
    with_workspace = Workspace.objects.filter(mission__in=list(missions), discarded_at=None).order_by("mission")
    work = (of_mission(mission) for mission in with_workspace.values_list("mission", flat=True))
    return [unmerged for unmerged in work if unmerged]


def _is_merged(workspace: Workspace, mirror: Path, tip: str) -> bool:
    """Whether a ref of the user's repository contains the commit; on a server, whether a merge of it was verified."""
    if sources.is_address(workspace.repository):
        merged_tips = merging.merged_tips(workspace.mission_id)
        return any(tip == merged or mirrors.contains(mirror, commit=tip, ref=merged) for merged in merged_tips)
    try:
        local = local_repositories.find(workspace.repository)
        completed = local.git("for-each-ref", "--count=1", "--contains", tip, timeout_s=git.TIMEOUT_S)
    except (git.GitError, errors.Invalid):
        return False
    return completed.returncode == 0 and bool(completed.stdout.strip())
