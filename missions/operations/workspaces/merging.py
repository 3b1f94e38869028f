"""Merge what a mission has landed into a branch of the user's repository."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from fleet import audit, caller, errors
from fleet.console import lines
from fleet.events.models import Event
from missions.models import Mission, Workspace
from missions.queries import workspaces
from missions.workspaces import branches, commits
from missions.workspaces.repositories import git, mirrors, targets
from missions.workspaces.repositories.targets import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeResult:
    """A branch of the user's repository that contains what the mission has landed. `before` is "" if it is new."""

    repository: str
    branch: str
    before: str
    commit: str  # its tip
    tip: str  # of the mission's branch, which it contains

    @property
    def outcome(self) -> str:
        if self.before == self.commit:
            return "unchanged"
        if not self.before:
            return "created"
        return "fast-forwarded" if self.commit == self.tip else "merged"

    def as_json(self) -> dict[str, str]:
        return {
            "repository": self.repository,
            "branch": self.branch,
            "before": self.before,
            "commit": self.commit,
            "tip": self.tip,
            "outcome": self.outcome,
        }


def merge(*, mission: UUID, into: str = "") -> MergeResult:
    """Merge what the mission has landed into a branch of its repository: the mission's branch, or `into`.

    The branch is created or advanced, by a merge commit if necessary. Nothing else in the repository changes. The
    branch is read back, to verify that it contains the work. Raises Conflict if nothing has landed, if the branch is
    checked out, or if the two do not merge; targets.Rejected if the repository rejects the commit; Unavailable if it
    cannot be read.
    """
    row = Mission.objects.get(id=mission)
    workspace = workspaces.find(row)
    git.require()
    branch = into or workspace.branch
    targets.require_branch_name(branch, pointer="/into")
    mirror = mirrors.of(workspace.repository)
    tip = "" if workspace.discarded_at else mirrors.find_tip(mirror, workspace.branch)
    if not tip or tip == workspace.base_commit:
        reason = "has been discarded" if workspace.discarded_at else "has not landed anything yet"
        raise errors.Conflict(f"The mission {reason}, so there is nothing to merge.")
    target = Target(repository=workspace.repository, branch=branch)
    before = target.tip()
    if not before and (namesake := target.namesake()):
        raise errors.Conflict(
            f"git could not tell a new branch {branch} from {namesake} of {workspace.repository}.",
            hint="Choose another branch (--into NAME).",
            over_http="Choose another branch (`into`).",
        )
    commit = _commit(row, workspace, mirror, target=target, before=before, tip=tip)
    if commit != before:
        _require_trusted_hooks(workspace, mirror, target)
        _require_not_checked_out(workspace, mirror, target)
        target.receive(mirror, commit=commit)
    after = _verify(row, workspace, mirror, target=target, tip=tip)
    merged = MergeResult(repository=workspace.repository, branch=branch, before=before, commit=after, tip=tip)
    _record(row, merged)
    return merged


def _commit(row: Mission, workspace: Workspace, mirror: Path, *, target: Target, before: str, tip: str) -> str:
    """The commit that the branch must point to, so that it contains the mission's work and keeps its own."""
    if not before:
        return tip
    mirrors.fetch(workspace.repository, revision=before, to=f"{mirrors.TARGETS}/{row.ref}")
    if mirrors.contains(mirror, commit=tip, ref=before):
        return before
    if mirrors.contains(mirror, commit=before, ref=tip):
        return tip
    try:
        merged = branches.merge(mirror, onto=before, commit=tip)
    except git.GitError as error:
        raise errors.Conflict(f"{workspace.branch} does not merge with {target.branch}: {error.text[-300:]}") from error
    if not merged.clean:
        files = ", ".join(map(git.printable, merged.files[:5]))
        raise errors.Conflict(
            f"{workspace.branch} conflicts with {target.branch} in {files or 'a rename'}.",
            hint="Merge it into a new branch (--into NAME), and merge that one by hand.",
            over_http="Merge it into a new branch (`into`), and merge that one by hand.",
        )
    message = commits.Message(
        author=caller.current().name,
        subject=f"Merge {workspace.branch} into {target.branch}",
        trailers={"Fleet-Mission": row.ref},
    )
    return branches.create_commit(mirror, tree=merged.tree, parent=before, second_parent=tip, message=message)


def _require_trusted_hooks(workspace: Workspace, mirror: Path, target: Target) -> None:
    """Raise Conflict if missions could write to the bare repository, and so to its hooks.

    Missions that have been cleaned up are not found; the sandbox confines the hooks then too, unless it is off.
    """
    if not target.is_bare:
        return
    path = Path(target.repository).resolve()
    enclosing = [str(folder) for folder in (path, *path.parents)]
    writer = Mission.objects.filter(Q(folder__in=enclosing) | Q(folder__startswith=f"{path}/")).first()
    if writer is not None:
        raise errors.Conflict(
            f"{target.repository} is a bare repository in the folder of a mission ({writer.ref}), whose workloads may "
            "have changed its hooks, so nothing is pushed to it.",
            hint=f"Check its hooks, then push by hand: git push {target.repository} {workspace.branch}, in {mirror}.",
            over_http="Have the operator push it.",
        )


def _require_not_checked_out(workspace: Workspace, mirror: Path, target: Target) -> None:
    folder = target.checked_out_in()
    if folder:
        raise errors.Conflict(
            f"{target.branch} is checked out in {lines.one_line(folder)}, and its files would no longer match the "
            "branch.",
            hint=f"Choose another branch (--into NAME), or merge it there: git pull {mirror} {workspace.branch}",
            over_http="Choose another branch (`into`).",
        )


def _verify(row: Mission, workspace: Workspace, mirror: Path, *, target: Target, tip: str) -> str:
    """The tip of the branch now. Raises Conflict if it does not contain the mission's work."""
    after = target.tip()
    if after:
        mirrors.fetch(workspace.repository, revision=after, to=f"{mirrors.TARGETS}/{row.ref}")
        if mirrors.contains(mirror, commit=tip, ref=after):
            return after
    raise errors.Conflict(f"{target.branch} of {workspace.repository} does not contain the work; it was not merged.")


def _record(row: Mission, merged: MergeResult) -> None:
    facts = {"branch": merged.branch, "commit": merged.commit, "tip": merged.tip, "outcome": merged.outcome}
    with transaction.atomic():
        audit.record(kind="mission.merge", subject=row.ref, before={"commit": merged.before or None}, after=facts)
        Event.objects.create(
            kind="mission.merged", scope=row.id, subject=row.id, data={**facts, "repository": merged.repository}
        )


def merged_tips(mission: UUID) -> list[str]:
    """The tips of the mission's branch whose merges were verified, the newest first."""
    events = Event.objects.filter(kind="mission.merged", scope=mission).order_by("-id").values_list("data", flat=True)
    return [str(data.get("tip", "")) for data in events[:20]]
