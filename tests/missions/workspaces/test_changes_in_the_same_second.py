"""Git compares times in seconds. A change immediately after the copy, with the same size and time, is committed too."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from missions.workspaces import copies, git_diffs
from tests.support import repository
from tests.support.repository import Repository

FILES = 300


@pytest.fixture
def project(tmp_path: Path) -> Repository:
    return repository.create(tmp_path / "project", {f"folder{n % 9}/file{n}": f"{n:05}\n" for n in range(FILES)})


def test_an_immediate_change_of_equal_size_is_committed(project: Repository) -> None:
    for _ in range(5):
        sortie = repository.sortie_copy(project)
        (sortie.path / "folder1" / "file1").write_text("x0001\n")
        status = (sortie.path / "folder2" / "file2").stat()
        (sortie.path / "folder2" / "file2").write_text("x0002\n")
        os.utime(sortie.path / "folder2" / "file2", ns=(status.st_atime_ns, status.st_mtime_ns))
        (sortie.path / "folder3" / "file3").chmod(0o755)
        assert git_diffs.of_copy(sortie.copy).text().count("\n+x000") == 2
        assert sortie.commit().paths == ("folder1/file1", "folder2/file2", "folder3/file3")
        (sortie.path / "folder1" / "file1").write_text("y0001\n")
        (sortie.path / "folder4" / "file4").write_text("y0004\n")
        assert sortie.commit().paths == ("folder1/file1", "folder2/file2", "folder3/file3", "folder4/file4")


def test_an_immediate_change_of_a_link_and_a_rename_are_committed(project: Repository) -> None:
    (project.path / "link").symlink_to("one")
    project.commit({"a": "a\n", "b": "b\n"})
    sortie = repository.sortie_copy(project)
    (sortie.path / "link").unlink()
    (sortie.path / "link").symlink_to("two")
    (sortie.path / "a").rename(sortie.path / "c")
    (sortie.path / "b").rename(sortie.path / "a")
    (sortie.path / "c").rename(sortie.path / "b")
    assert sortie.commit().paths == ("a", "b", "link")


def test_immediate_changes_of_every_file_are_committed(project: Repository) -> None:
    sortie = repository.sortie_copy(project)
    for file in sortie.path.glob("folder*/file*"):
        file.write_text("x" + file.read_text()[1:])
    assert len(sortie.commit().files) == FILES


def test_unchanged_files_are_not_read_again(project: Repository) -> None:
    """A change that seems older than the copy is not seen, because git trusts the index."""
    for _ in range(20):
        time.sleep(1 - time.time() % 1)
        started = int(time.time())
        sortie = repository.sortie_copy(project)
        (sortie.path / "folder1" / "file1").write_text("x0001\n")
        time.sleep(copies.TICK_S)
        copies._record_time(sortie.copy.git_folder)
        if int(time.time()) == started:
            assert sortie.commit().paths == ()
            return
    pytest.skip("this host is too slow to make a copy within a second")
