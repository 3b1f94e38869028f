"""Missions work on every kind of repository: shallow, bare, SHA-256, oddly named, with a rewritten base."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fleet import errors, ids
from missions.workspaces import branches
from missions.workspaces.repositories import mirrors, sources
from tests.support import repository
from tests.support.repository import Repository


def check(project: Repository) -> None:
    """Copy, change, commit, merge and move the branch."""
    branch = f"fleet/{project.git('rev-parse', 'HEAD')[:8]}"
    first, second = repository.sortie_copy(project, branch=branch), repository.sortie_copy(project, branch=branch)
    first.sh(
        "git log -1 --format=%s >/dev/null; git status --porcelain; echo 1 > first.txt; git add .; git commit -qm x"
    )
    second.sh("echo 2 > second.txt")
    store, base = first.copy.mirror, first.copy.base
    change, second_change = first.commit(), second.commit()
    result = branches.merge(store, onto=change.commit, commit=second_change.commit)
    assert result.clean
    lane = branches.lane_content(store, sortie=ids.new(), attempt=1)
    branches.write_lane(store, branch, content=lane, expected="")
    branches.move(store, branch=branch, lane=lane, tip=base, to=change.commit)
    third = repository.sortie_copy(project, branch=branch)
    assert (third.path / "first.txt").read_text() == "1\n"
    assert third.sh("git log --format=%s").splitlines()[0] == "edit: A test"


def test_a_shallow_clone_can_be_used(tmp_path: Path) -> None:
    origin = repository.create(tmp_path / "origin", {"a.txt": "a\n"})
    origin.commit({"a.txt": "b\n"})
    origin.git("clone", "--quiet", "--depth=1", f"file://{origin.path}", str(tmp_path / "shallow"))
    project = Repository(tmp_path / "shallow")
    assert project.git("rev-parse", "--is-shallow-repository") == "true"
    check(project)
    project.git("fetch", "--quiet", "--unshallow")
    project.commit({"a.txt": "c\n"})
    check(project)


def test_a_sha256_repository_can_be_used(tmp_path: Path) -> None:
    path = tmp_path / "project"
    path.mkdir()
    subprocess.run(["git", "init", "--quiet", "--object-format=sha256", str(path)], check=True)
    Repository(path).commit({"a.txt": "a\n"})
    check(Repository(path))


@pytest.mark.parametrize("name", ["with spaces", "größe", "-dash", 'quote\'s "d"', "new\nline", "a:b", "$HOME"])
def test_folders_with_odd_names_can_be_used(tmp_path: Path, name: str) -> None:
    check(repository.create(tmp_path / name, {"a.txt": "a\n"}))


def test_a_bare_repository_can_be_used(tmp_path: Path) -> None:
    project = repository.create(tmp_path / "project", {"a.txt": "a\n"})
    project.git("clone", "--quiet", "--bare", str(project.path), str(tmp_path / "bare.git"))
    check(Repository(tmp_path / "bare.git"))


def test_a_linked_worktree_can_be_used(tmp_path: Path) -> None:
    project = repository.create(tmp_path / "project", {"a.txt": "a\n"})
    project.git("worktree", "add", "--quiet", "-b", "other", str(tmp_path / "linked"))
    check(Repository(tmp_path / "linked"))


def test_a_linked_worktree_with_a_relative_path_can_be_used(tmp_path: Path) -> None:
    project = repository.create(tmp_path / "project", {"a.txt": "a\n"})
    worktree = tmp_path / "linked"
    project.git("worktree", "add", "--quiet", "-b", "other", str(worktree))
    (worktree / ".git").write_text("gitdir: ../project/.git/worktrees/linked\n")
    (project.path / ".git/worktrees/linked/gitdir").write_text("../../../../linked/.git\n")
    check(Repository(worktree))


def test_the_checkout_of_a_submodule_can_be_used(tmp_path: Path) -> None:
    library = repository.create(tmp_path / "library", {"lib.py": "1\n"})
    project = repository.create(tmp_path / "project", {"a.txt": "a\n"})
    project.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(library.path), "lib")
    check(Repository(project.path / "lib"))


def test_a_clone_that_borrows_its_objects_is_refused_until_it_has_its_own(tmp_path: Path) -> None:
    project = repository.create(tmp_path / "project", {"a.txt": "a\n"})
    project.git("clone", "--quiet", "--shared", str(project.path), str(tmp_path / "shared"))
    sharing = Repository(tmp_path / "shared")
    sharing.commit({"b.txt": "b\n"})
    with pytest.raises(errors.Invalid, match="borrows objects from another repository") as excinfo:
        check(sharing)
    command = excinfo.value.hint.partition("copy the objects: ")[2].partition(". Otherwise")[0]
    subprocess.run(["/bin/sh", "-euc", command], check=True)
    check(sharing)


def test_submodules_stay_pointers(tmp_path: Path) -> None:
    library = repository.create(tmp_path / "library", {"lib.py": "1\n"})
    project = repository.create(tmp_path / "project", {"a.txt": "a\n"})
    project.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(library.path), "lib")
    project.commit({"a.txt": "b\n"})
    sortie = repository.sortie_copy(project)
    sortie.sh("echo c > a.txt")
    assert sortie.commit().paths == ("a.txt",)
    check(project)


def test_a_base_that_was_rewritten_after_the_fetch_can_be_used(tmp_path: Path) -> None:
    project = repository.create(tmp_path / "project", {"a.txt": "a\n"})
    base = project.git("rev-parse", "HEAD")
    store = mirrors.ensure(str(project.path), commit=base)
    project.git("commit", "--quiet", "--amend", "--message", "Rewritten", "--allow-empty")
    project.git("reflog", "expire", "--expire=now", "--all")
    project.git("gc", "--quiet", "--prune=now")
    assert mirrors.ensure(str(project.path), commit=base) == store
    check(project)
    newer = project.git("rev-parse", "HEAD")
    mirrors.ensure(str(project.path), commit=newer)
    assert {mirrors.read_ref(store, f"{mirrors.BASES}/{commit}") for commit in (base, newer)} == {base, newer}


def test_a_repository_without_commits_is_refused(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path / "empty")], check=True)
    with pytest.raises(errors.Invalid, match="has no commits"):
        sources.resolve_base(str(tmp_path / "empty"), "")


def test_a_subfolder_of_a_repository_is_refused(tmp_path: Path) -> None:
    """Git finds the repository above it, but cannot fetch from it."""
    project = repository.create(tmp_path / "project", {"sub/a.txt": "a\n"})
    with pytest.raises(errors.Invalid, match=f"is in the repository {project.path}"):
        sources.resolve_base(str(project.path / "sub"), "")
    (tmp_path / "link").symlink_to(project.path / "sub")
    with pytest.raises(errors.Invalid):
        sources.resolve_base(str(tmp_path / "link"), "")


def test_a_branch_below_the_name_of_another_is_refused(tmp_path: Path) -> None:
    project = repository.create(tmp_path / "project", {"a.txt": "a\n"})
    repository.sortie_copy(project, branch="fleet/test")
    with pytest.raises(errors.FleetError, match="'refs/heads/fleet/test' exists"):
        repository.sortie_copy(project, branch="fleet/test/more")


def test_line_endings_of_other_files_are_not_changed(tmp_path: Path) -> None:
    """Git would normalise them, because .gitattributes was added later."""
    project = repository.create(tmp_path / "project", {"a.txt": "a\r\n", "b.txt": "b\r\n", "c.py": "c\n"})
    project.commit({".gitattributes": "*.txt text=auto\n"})
    sortie = repository.sortie_copy(project)
    sortie.sh("echo d > c.py; touch a.txt")
    assert sortie.commit().paths == ("c.py",)
    assert (sortie.path / "a.txt").read_bytes() == b"a\r\n"
