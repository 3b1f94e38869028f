"""The branch of a mission as a file that git can clone, for external agents."""

from __future__ import annotations

from collections.abc import Iterator

from missions.models import Mission
from missions.queries import workspaces
from missions.workspaces.repositories import git, mirrors


def bundle(*, mission: Mission) -> Iterator[bytes]:
    """The branch and its history as a git bundle, in chunks. Fetches the repository if that has not been done yet.

    Raises NotFound if the mission has no workspace.
    """
    workspace = workspaces.find(mission)
    git.require()
    mirror = mirrors.ensure(workspace.repository, commit=workspace.base_commit)
    mirrors.tip(mirror, workspace.branch, start=workspace.base_commit)
    return git.stream("bundle", "create", "--quiet", "-", f"refs/heads/{workspace.branch}", at=mirror)
