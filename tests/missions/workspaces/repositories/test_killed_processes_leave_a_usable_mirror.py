"""A process that is killed while it writes to a mirror leaves lock files and partial folders, which break nothing."""

from __future__ import annotations

import signal
import subprocess
import threading
from pathlib import Path

import pytest

from fleet import errors, ids
from missions.workspaces import branches, commits
from missions.workspaces.repositories import git, mirrors
from tests.support import repository
from tests.support.repository import Repository
from tests.support.waiting import until


@pytest.fixture
def project(tmp_path: Path) -> Repository:
    return repository.create(tmp_path / "project", {"a.txt": "a\n"})


@pytest.fixture
def store(project: Repository) -> Path:
    return mirrors.ensure(str(project.path), commit=project.git("rev-parse", "HEAD"))


def leave_lock(store: Path, ref: str) -> Path:
    file = store / f"{ref}.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("")
    return file


def test_a_mirror_whose_creation_was_interrupted_is_created_again(project: Repository) -> None:
    path = mirrors.of(str(project.path))
    partial_folder = path.with_suffix(".new")
    (partial_folder / "refs").mkdir(parents=True)
    (partial_folder / "HEAD").write_text("ref: refs/heads/main\n")
    (partial_folder / "config.lock").write_text("")
    commit = project.git("rev-parse", "HEAD")
    store = mirrors.ensure(str(project.path), commit=commit)
    assert mirrors.read_ref(store, f"{mirrors.BASES}/{commit}") == commit


def test_a_damaged_mirror_is_never_mistaken_for_the_repository_around_it(project: Repository) -> None:
    inner = project.path / ".fleet" / "damaged.git"
    (inner / "refs").mkdir(parents=True)
    (inner / "HEAD").write_text("ref: refs/heads/main\n")
    with pytest.raises(git.GitError, match="not a git repository"):
        mirrors.set_ref(inner, "refs/heads/fleet/x", project.git("rev-parse", "HEAD"))
    assert project.git("for-each-ref", "--format=%(refname)") == "refs/heads/main"


@pytest.mark.parametrize("ref", ["refs/heads/fleet/x", "refs/fleet/lanes/fleet/x", "refs/fleet/attempts/srt_1/1"])
def test_a_lock_file_of_a_killed_git_is_removed(store: Path, project: Repository, ref: str) -> None:
    file = leave_lock(store, ref)
    commit = project.git("rev-parse", "HEAD")
    mirrors.set_ref(store, ref, commit)
    assert mirrors.read_ref(store, ref) == commit
    assert not file.exists()


def test_a_branch_moves_although_locks_were_left_on_it_and_on_its_lane(store: Path, project: Repository) -> None:
    first = project.git("rev-parse", "HEAD")
    second = project.commit({"a.txt": "b\n"})
    mirrors.ensure(str(project.path), commit=second)
    assert mirrors.tip(store, "fleet/x", start=first) == first
    lane = branches.lane_content(store, sortie=ids.new(), attempt=1)
    leave_lock(store, "refs/fleet/lanes/fleet/x")
    branches.write_lane(store, "fleet/x", content=lane, expected="")
    leave_lock(store, "refs/heads/fleet/x")
    leave_lock(store, "refs/fleet/lanes/fleet/x")
    branches.move(store, branch="fleet/x", lane=lane, tip=first, to=second)
    assert mirrors.tip(store, "fleet/x", start=first) == second


def test_a_lock_on_a_base_is_removed_when_it_is_fetched_again(project: Repository, store: Path) -> None:
    second = project.commit({"a.txt": "b\n"})
    leave_lock(store, f"{mirrors.BASES}/{second}")
    mirrors.ensure(str(project.path), commit=second)
    assert mirrors.read_ref(store, f"{mirrors.BASES}/{second}") == second


def test_a_lock_file_of_a_running_git_is_respected(store: Path, project: Repository) -> None:
    """The git of a killed process continues and holds the lock, so its lock file is not removed."""
    commit = project.git("rev-parse", "HEAD")
    with mirrors.lock(store.with_suffix(".refs-lock")) as descriptor:
        survivor = subprocess.Popen(["sleep", "600"], pass_fds=[descriptor])
    file = leave_lock(store, "refs/heads/fleet/x")
    writer = threading.Thread(target=lambda: mirrors.set_ref(store, "refs/heads/fleet/x", commit))
    writer.start()
    writer.join(0.3)
    assert file.exists()
    assert writer.is_alive()
    survivor.send_signal(signal.SIGKILL)
    survivor.wait()
    writer.join(30)
    until(lambda: mirrors.read_ref(store, "refs/heads/fleet/x") == commit)


def test_waiting_for_the_lock_of_another_process_times_out(store: Path) -> None:
    path = store.with_suffix(".refs-lock")
    with (
        mirrors.lock(path),
        pytest.raises(errors.Unavailable, match="has held the lock"),
        mirrors.lock(path, within_s=0.1),
    ):
        pass


def test_a_disk_error_is_not_mistaken_for_a_moved_branch(store: Path, project: Repository) -> None:
    """Otherwise the sortie would wait repeatedly for a merge that never happens."""
    first = project.git("rev-parse", "HEAD")
    mirrors.tip(store, "fleet/x", start=first)
    lane = branches.lane_content(store, sortie=ids.new(), attempt=1)
    branches.write_lane(store, "fleet/x", content=lane, expected="")
    (store / "refs/heads/fleet/x.lock").mkdir()  # git can neither create nor remove its lock file
    second = branches.create_commit(
        store,
        tree=branches.tree_of(store, first),
        parent=first,
        message=commits.Message(author="a", subject="s", trailers={}),
    )
    with pytest.raises(git.GitError):
        branches.move(store, branch="fleet/x", lane=lane, tip=first, to=second)
    with pytest.raises(branches.LaneLost):
        branches.move(store, branch="fleet/x", lane=lane, tip=second, to=first)
