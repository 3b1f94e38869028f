"""A small patch can contain files of any size. They must not fill the disk before they are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from missions.workspaces import commits, refusals
from tests.support import repository
from tests.support.repository import Repository

MB = 1_000_000


@pytest.fixture
def project(tmp_path: Path) -> Repository:
    return repository.create(tmp_path / "project", {"app.py": "one\n", "old.txt": "old\n"})


def patch(project: Repository, tmp_path: Path, sizes: dict[str, int]) -> bytes:
    """`git diff --binary` after these files were added, changed, or (-1) removed."""
    copy = Repository(tmp_path / f"copy{len(list(tmp_path.iterdir()))}")
    project.git("clone", "--quiet", str(project.path), str(copy.path))
    for name, size in sizes.items():
        if size < 0:
            (copy.path / name).unlink()
            continue
        with open(copy.path / name, "wb") as file:
            file.write(name.encode() + b"\0")
            file.truncate(size)
    copy.git("add", "--all")
    return (copy.git("diff", "--binary", "--cached", "HEAD") + "\n\n").encode()


def disk_usage(folder: Path) -> int:
    return sum(
        entry.stat().st_blocks * 512 for entry in folder.rglob("*") if entry.is_file() and ".git" not in entry.parts
    )


def test_a_large_file_is_refused_before_it_is_written(project: Repository, tmp_path: Path) -> None:
    data = patch(project, tmp_path, {"large.bin": 50 * MB})
    assert len(data) < MB
    sortie = repository.sortie_copy(project)
    with pytest.raises(refusals.CommitRefused, match=r"large\.bin is too large"):
        commits.apply(sortie.copy, patch=data, max_bytes=10 * MB)
    assert not (sortie.path / "large.bin").exists()
    assert disk_usage(sortie.copy.engine) < 5 * MB


def test_many_files_are_refused_together(project: Repository, tmp_path: Path) -> None:
    data = patch(project, tmp_path, {f"file{number}": 9 * MB for number in range(6)})
    sortie = repository.sortie_copy(project)
    with pytest.raises(refusals.CommitRefused, match="have 54,000,000 bytes; at most 50,000,000 are allowed"):
        commits.apply(sortie.copy, patch=data, max_bytes=10 * MB, max_total_bytes=50 * MB)
    assert disk_usage(sortie.path) < MB


def test_other_patches_change_the_files_as_before(project: Repository, tmp_path: Path) -> None:
    data = patch(project, tmp_path, {"app.py": 100, "new.bin": MB, "old.txt": -1})
    sortie = repository.sortie_copy(project)
    commits.apply(sortie.copy, patch=data, max_bytes=10 * MB)
    assert sorted(os.listdir(sortie.path)) == [".git", "app.py", "new.bin"]
    assert sortie.commit(max_bytes=10 * MB).paths == ("app.py", "new.bin", "old.txt")
