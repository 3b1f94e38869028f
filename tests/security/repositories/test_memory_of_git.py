"""Files of a workload cannot make git use all memory of the host. Git runs outside the cgroup of the attempt."""

from __future__ import annotations

from pathlib import Path

import pytest

from missions.workspaces import branches, git_diffs, refusals
from missions.workspaces.repositories import git
from tests.support import repository
from tests.support.repository import Repository

LINES = 100_000_000  # empty ones. Git allocates about 20 bytes for each before it reads the first


@pytest.fixture
def project(tmp_path: Path) -> Repository:
    return repository.create(tmp_path / "project", {"app.py": "one\n", "lines.txt": "one\n"})


def commit_lines(project: Repository, text: str) -> str:
    (project.path / "lines.txt").write_bytes(text.encode() * (LINES // len(text)))
    return project.commit({}, "Write many lines")


def test_files_with_too_many_lines_are_not_compared(project: Repository) -> None:
    base = project.git("rev-parse", "HEAD")
    commit = commit_lines(project, "\n")
    with pytest.raises(git.GitError, match="memory"):
        git_diffs.between(project.path / ".git", base=base, commit=commit)


def test_files_with_too_many_lines_are_not_merged(project: Repository) -> None:
    base = project.git("rev-parse", "HEAD")
    ours = commit_lines(project, "\n")
    project.git("checkout", "--quiet", "-B", "theirs", base)
    theirs = project.commit({"lines.txt": "two\n"})
    with pytest.raises(git.GitError, match="memory"):
        branches.merge(project.path / ".git", onto=ours, commit=theirs)


def test_an_attempt_with_too_many_lines_is_refused_with_the_remedy(project: Repository) -> None:
    sortie = repository.sortie_copy(project)
    (sortie.path / "lines.txt").write_bytes(b"\n" * LINES)
    with pytest.raises(refusals.CommitRefused, match="too many lines"):
        sortie.commit(max_bytes=2 * LINES)


def test_the_memory_of_git_in_the_sandbox_is_limited(project: Repository) -> None:
    """It keeps the patterns of every .gitignore in memory that applies to a file."""
    sortie = repository.sortie_copy(project)
    completed = git.run_in_sandbox(
        "ulimit -d",
        copy=sortie.path,
        writable_copy=False,
        run=sortie.copy.run,
        git_folder=sortie.copy.git_folder,
        mirror=sortie.copy.mirror,
        env=sortie.copy.env,
    )
    assert completed.stdout.decode().strip() == str(git.MEMORY_KB)
