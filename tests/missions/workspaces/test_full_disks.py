"""A full disk at any step from the mirror to the branch gives a clear error, leaves nothing half done, and recovers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from fleet import errors, ids
from fleet.config.home import Home
from missions.workspaces import branches, commits, copies
from missions.workspaces.repositories import git, mirrors
from tests.support import repository
from tests.support.repository import Repository, SortieCopy

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")


@dataclass
class Disk:
    path: Path

    @property
    def ballast(self) -> Path:
        return self.path / "ballast"

    def fill(self, *, free_bytes: int = 0) -> None:
        """Fill the disk, except for this many bytes."""
        with open(self.ballast, "wb", buffering=0) as file:
            for size in (1_000_000, 4_096, 1):
                with_space = True
                while with_space:
                    try:
                        with_space = file.write(b"x" * size) == size
                    except OSError:
                        with_space = False
            file.truncate(max(0, file.tell() - free_bytes))

    def free(self) -> None:
        self.ballast.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "small"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", str(path)], check=False)
    if mounted.returncode:
        pytest.skip("no disk can be mounted here")
    try:
        with override_settings(FLEET_HOME=Home(path / "home"), FLEET_CHECKPOINTS=path / "checkpoints"):
            (path / "home").mkdir()
            yield Disk(path)
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.fixture
def project(tmp_path: Path) -> Repository:
    files = {f"file{number}": os.urandom(20_000).hex() for number in range(20)}
    return repository.create(tmp_path / "project", {"a.txt": "a\n", **files})


def fails_on(disk: Disk, run: Callable[[], Any], *, free_bytes: int = 0) -> str:
    """Check that `run` raises an error for users while the disk is full, and works afterwards. Returns the message."""
    disk.fill(free_bytes=free_bytes)
    with pytest.raises(errors.FleetError) as excinfo:
        run()
    disk.free()
    run()
    return str(excinfo.value)


@pytest.mark.parametrize("free_bytes", [0, 4_096, 50_000, 300_000])
def test_a_full_disk_leaves_the_mirror_intact(disk: Disk, project: Repository, free_bytes: int) -> None:
    commit = project.git("rev-parse", "HEAD")
    text = fails_on(disk, lambda: mirrors.ensure(str(project.path), commit=commit), free_bytes=free_bytes)
    assert "No space left" in text or "cannot" in text or "fail" in text
    git.run("fsck", "--strict", at=mirrors.of(str(project.path)))


@pytest.mark.parametrize("free_bytes", [0, 4_096, 50_000, 300_000])
def test_a_full_disk_fails_the_copy_and_the_next_one_is_complete(
    disk: Disk, project: Repository, free_bytes: int
) -> None:
    commit = project.git("rev-parse", "HEAD")
    store = mirrors.ensure(str(project.path), commit=commit)
    new_sortie = SortieCopy(copies.of(sortie=ids.new(), mirror=store))

    def make() -> None:
        with copies.lock(new_sortie.copy, attempt=1):
            copies.make(new_sortie.copy, branch="fleet/test", tip=commit, author="backend")

    disk.fill(free_bytes=free_bytes)
    with pytest.raises(errors.FleetError):
        make()
    assert not new_sortie.copy.exists
    disk.free()
    make()
    assert new_sortie.sh("git status --porcelain") == ""


@pytest.mark.parametrize("free_bytes", [0, 4_096, 20_000, 60_000])
def test_a_full_disk_fails_the_commit_and_the_next_one_is_complete(
    disk: Disk, project: Repository, free_bytes: int
) -> None:
    sortie = repository.sortie_copy(project)
    (sortie.path / "new").write_text(os.urandom(20_000).hex())
    results: list[commits.Commit] = []
    fails_on(disk, lambda: results.append(sortie.commit()), free_bytes=free_bytes)
    assert results[-1].paths == ("new",)
    git.run("fsck", "--strict", "--full", at=sortie.copy.mirror)
    assert mirrors.read_ref(sortie.copy.mirror, sortie.ref) == results[-1].commit


def test_a_full_disk_fails_the_move_of_the_branch(disk: Disk, project: Repository) -> None:
    """A full disk must not be mistaken for a move by another attempt, or the sortie would wait forever."""
    sortie = repository.sortie_copy(project)
    (sortie.path / "new").write_text("new\n")
    change = sortie.commit()
    store = sortie.copy.mirror
    disk.fill()
    with pytest.raises(errors.FleetError):
        branches.lane_content(store, sortie=ids.new(), attempt=1)
    disk.free()
    lane = branches.lane_content(store, sortie=ids.new(), attempt=1)
    disk.fill()
    with pytest.raises(git.GitError):
        branches.write_lane(store, "fleet/test", content=lane, expected="")
    disk.free()
    branches.write_lane(store, "fleet/test", content=lane, expected="")
    disk.fill()
    with pytest.raises(git.GitError):
        branches.move(store, branch="fleet/test", lane=lane, tip=change.base, to=change.commit)
    assert mirrors.read_ref(store, "refs/heads/fleet/test") == change.base
    disk.free()
    branches.move(store, branch="fleet/test", lane=lane, tip=change.base, to=change.commit)
    assert mirrors.read_ref(store, "refs/heads/fleet/test") == change.commit
