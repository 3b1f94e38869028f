"""The names of files are chosen by workloads, so lists of them are bounded before they are in the fleet's memory."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from fleet import errors
from missions.workspaces import git_diffs, refusals
from missions.workspaces.repositories import git, mirrors
from tests.support import repository
from tests.support.repository import Repository

FILES = 13_500  # with paths of about 3,800 bytes: more than 50 MB
CREATE = """
import os
for _ in range(15):
    os.mkdir("d" * 240)
    os.chdir("d" * 240)
for number in range({files}):
    os.mknod(f"{{number}}" + "_" * 200)
"""


@pytest.fixture
def project(tmp_path: Path) -> Repository:
    return repository.create(tmp_path / "project", {"app.py": "one\n"})


def test_a_commit_with_too_long_paths_is_refused(project: Repository) -> None:
    sortie = repository.sortie_copy(project)
    subprocess.run(["python3", "-c", CREATE.format(files=FILES)], cwd=sortie.path, check=True)
    with pytest.raises(refusals.CommitRefused, match="with names of more than 50,000,000 bytes"):
        sortie.commit()


def test_a_diff_does_not_list_all_files_with_long_paths(project: Repository) -> None:
    """The diff of a mission with 50 such changes would be 1 GB."""
    sortie = repository.sortie_copy(project)
    subprocess.run(["python3", "-c", CREATE.format(files=200)], cwd=sortie.path, check=True)
    diff = git_diffs.of_copy(sortie.copy)
    assert 100 < len(diff.files) < 150
    assert sum(len(file.path) for file in diff.files) <= git_diffs.MAX_PATH_BYTES
    assert diff.truncated


@pytest.mark.parametrize("stream", [1, 2])
def test_a_command_that_prints_too_much_is_ended(stream: int) -> None:
    script = f"trap '' PIPE; exec yes >&{stream}"
    with pytest.raises(git.GitError, match="git add failed: it printed more than 100,000,000 bytes"):
        git.run_to_end(["/bin/sh", "-c", script], ("add",), os.environ, 60)


def test_a_command_may_read_and_print_at_the_same_time() -> None:
    completed = git.run_to_end(["/bin/cat"], ("add",), os.environ, 60, stdin=b"x" * 1_000_000)
    assert completed.stdout == b"x" * 1_000_000
    assert (completed.stderr, completed.returncode) == (b"", 0)


def test_a_command_that_takes_too_long_is_ended_even_without_output() -> None:
    for script in ("exec sleep 100", "exec sleep 100 >&- 2>&-"):
        with pytest.raises(git.GitError, match=r"it took longer than 0\.5 s"):
            git.run_to_end(["/bin/sh", "-c", script], ("add",), os.environ, 0.5)


def nested(project: Repository, *, depth: int, width: int) -> str:
    """A commit with width ** depth files, in a few objects."""

    def write(*arguments: str, text: str) -> str:
        command = ["git", "-C", str(project.path), *arguments]
        return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout.strip()

    entry = f"100644 blob {write('hash-object', '-w', '--stdin', text='one')}"
    for _ in range(depth):
        tree = write("mktree", text="".join(f"{entry}\t{number}\n" for number in range(width)))
        entry = f"040000 tree {tree}"
    commit = project.git("commit-tree", "-m", "Nest folders", tree)
    project.git("update-ref", "refs/heads/nested", commit)
    return commit


def test_a_repository_with_billions_of_files_in_a_few_objects_is_refused(project: Repository) -> None:
    commit = nested(project, depth=5, width=100)
    for _ in range(2):
        with pytest.raises(errors.Invalid, match="more than 1,000,000 files"):
            mirrors.ensure(str(project.path), commit=commit)


def test_a_repository_with_more_bytes_than_the_disk_has_is_refused(project: Repository) -> None:
    with open(project.path / "zeros", "wb") as file:
        file.truncate(20_000_000)
    project.commit({}, "Add a file")
    blob = project.git("rev-parse", "HEAD:zeros")
    files = "".join(f"100644 blob {blob}\t{number}\n" for number in range(1_000))
    mktree = ["git", "-C", str(project.path), "mktree"]
    tree = subprocess.run(mktree, input=files, capture_output=True, text=True, check=True).stdout.strip()
    for _ in range(2):  # 2 TB
        folders = "".join(f"040000 tree {tree}\t{number}\n" for number in range(10))
        tree = subprocess.run(mktree, input=folders, capture_output=True, text=True, check=True).stdout.strip()
    commit = project.git("commit-tree", "-m", "Repeat a file", tree)
    project.git("update-ref", "refs/heads/large", commit)
    with pytest.raises(errors.Invalid, match="more bytes than this disk has space for"):
        mirrors.ensure(str(project.path), commit=commit)
