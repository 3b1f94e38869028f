"""Operations of checkpoints on a mirror: find the tip that a mission's rows imply, keep commits by refs, move branches.

The refs of a checkpoint are below refs/fleet/checkpoints/CHECKPOINT; they exist as long as the checkpoint does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from fleet import errors, ids
from missions.models import Workspace
from missions.workspaces.repositories import git, mirrors

TRIES = 5  # to move a branch that other processes move too
MAX_COMMITS = 1_000  # that have landed since the rows were read


def tip(workspace: Workspace, *, landed: Collection[str]) -> str:
    """The tip of the branch as of the rows with the commits `landed`, without what the mission has landed since."""
    mirror = mirrors.of(workspace.repository)
    if workspace.restore_to:
        return workspace.restore_to
    if not (mirror / "HEAD").exists():
        return workspace.base_commit
    form = "--format=%H %(trailers:key=Fleet-Mission,valueonly,separator=%x2C)"
    log = git.execute(
        "log", "--first-parent", f"--max-count={MAX_COMMITS}", form, f"refs/heads/{workspace.branch}", "--", at=mirror
    )
    if log.returncode:
        return workspace.base_commit  # no attempt has created the branch yet
    known = {*landed, workspace.base_commit}
    mission = ids.encode(ids.MISSION, workspace.mission_id)
    rows = [row.partition(" ") for row in log.stdout.decode("utf-8", "replace").splitlines() if row]
    return next((commit for commit, _, owner in rows if commit in known or owner != mission), rows[0][0])


def commits_after(mirror: Path, *, branch: str, commit: str) -> int:
    """How many commits the branch has that `commit` does not contain; 0 if either is missing."""
    completed = git.execute("rev-list", "--count", f"{commit}..refs/heads/{branch}", "--", at=mirror)
    return int(completed.stdout) if completed.returncode == 0 else 0


def missing(mirror: Path, commits: Collection[str]) -> set[str]:
    """The commits among these that the mirror does not have."""
    if not (mirror / "HEAD").exists():
        return set(commits)
    rows = git.line(
        "cat-file", "--batch-check", at=mirror, stdin="".join(f"{c}^{{commit}}\n" for c in commits).encode()
    )
    return {commit for commit, row in zip(commits, rows.splitlines(), strict=True) if row.endswith(" missing")}


def checkpoint_ref(checkpoint: str, name: str) -> str:
    return f"{mirrors.CHECKPOINTS}/{checkpoint}/{name}"


def keep(mirror: Path, refs: Mapping[str, str]) -> None:
    """Create or move these refs, all or none."""
    if refs:
        mirrors.write_refs(mirror, "".join(f"update {ref} {commit}\n" for ref, commit in refs.items()))


def release(mirror: Path, *, checkpoint: str) -> None:
    """Delete the refs of a checkpoint."""
    refs = git.line("for-each-ref", "--format=%(refname)", checkpoint_ref(checkpoint, ""), at=mirror).splitlines()
    if refs:
        mirrors.write_refs(mirror, "".join(f"delete {ref}\n" for ref in refs))


def sweep(*, checkpoints: Collection[str]) -> None:
    """Remove the refs of all checkpoints except these. No capture may run at the same time."""
    for mirror in mirrors.existing():
        rows = git.line("for-each-ref", "--format=%(refname)", mirrors.CHECKPOINTS, at=mirror).splitlines()
        obsolete = [ref for ref in rows if ref.removeprefix(f"{mirrors.CHECKPOINTS}/").split("/")[0] not in checkpoints]
        if obsolete:
            mirrors.write_refs(mirror, "".join(f"delete {ref}\n" for ref in obsolete))


def complete(workspace: Workspace) -> None:
    """Move the branch in git, as a restore or a fork has recorded it in the row.

    Several processes may call this at once. The branch's former tip gets the ref `restore_ref` in the same git
    transaction, so it is never moved twice; without that ref, the branch is only created. The lane's ref changes too:
    an attempt that was about to land loses. Raises Unavailable if the commit is missing, or if other processes keep
    moving the branch.
    """
    to, ref = workspace.restore_to, workspace.restore_ref
    if not to:
        return
    mirror = mirrors.ensure(workspace.repository, commit=workspace.base_commit)
    if missing(mirror, [to]):
        raise errors.Unavailable(
            f"The mirror {mirror.name} lacks the commit {to[:12]}, to which a restore moves {workspace.branch}.",
            hint="Restore the folder of repositories from a backup.",
        )
    if ref:
        _move(mirror, branch=workspace.branch, to=to, ref=ref)
    else:
        mirrors.tip(mirror, workspace.branch, start=to)
    Workspace.objects.filter(mission=workspace.mission_id, restore_to=to, restore_ref=ref).update(
        restore_to="", restore_ref=""
    )
    workspace.restore_to = workspace.restore_ref = ""


def complete_all() -> None:
    """Complete the restores and forks whose process was killed. Raises the first error after trying all."""
    failures = []
    for workspace in Workspace.objects.exclude(restore_to=""):
        try:
            complete(workspace)
        except errors.FleetError as error:
            failures.append(error)
    if failures:
        raise failures[0]


def _move(mirror: Path, *, branch: str, to: str, ref: str) -> None:
    lane = git.line("hash-object", "-w", "--stdin", at=mirror, stdin=f"{ref}\n".encode())
    for failures in range(TRIES):
        if mirrors.read_ref(mirror, ref):
            return  # already done
        former = mirrors.find_tip(mirror, branch)
        try:
            mirrors.write_refs(
                mirror,
                f"create {ref} {former or to}\n"
                f"update refs/heads/{branch} {to} {former or '0' * len(to)}\n"
                f"update {mirrors.LANES}/{branch} {lane}\n",
            )
            return
        except git.GitError as error:
            if failures == TRIES - 1:
                raise errors.Unavailable(f"The branch {branch} could not be moved: {error.text[-300:]}") from error
