"""A workload that can write to a `.git` folder cannot make the fleet's git use other files or repositories."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fleet import errors
from fleet.config.home import Home
from missions.operations.workspaces import merging
from missions.workspaces.repositories import local_repositories, mirrors, sources
from missions.workspaces.repositories.targets import Target
from tests.support import repository
from tests.support.repository import Repository
from tests.support.work import conflicting

NAME = "|| (id) | tee x #"
SECRET = "the secret"


@pytest.fixture
def project(tmp_path: Path) -> Repository:
    """A repository that a workload can write to."""
    return repository.create(tmp_path / "project", {"a.txt": "a\n"})


@pytest.fixture
def other(tmp_path: Path) -> Repository:
    """Another repository of the fleet's user, which the workload cannot even read."""
    return repository.create(tmp_path / "other", {"secret.txt": SECRET})


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """A file of the fleet's user that a shell runs."""
    path = tmp_path / ".bashrc"
    path.write_text("true\n")
    return path


def mirror_with_commit(project: Repository) -> tuple[Path, str]:
    """The mirror of the repository, and a commit there that the repository does not have."""
    sortie = repository.sortie_copy(project)
    sortie.sh("echo new > new.txt")
    commit = sortie.commit().commit
    return sortie.copy.mirror, commit


def receive(project: Repository, branch: str = "fleet/x") -> None:
    store, commit = mirror_with_commit(project)
    Target(repository=str(project.path), branch=branch).receive(store, commit=commit)


def poison(git_folder: Path, file: Path) -> None:
    """Replace the reflog of the branch fleet/x by a link to this file."""
    with open(git_folder / "config", "a") as config:
        config.write(f'[core]\nlogAllRefUpdates = always\n[user]\nname = "{NAME}"\n')
    (git_folder / "logs/refs/heads/fleet").mkdir(parents=True)
    (git_folder / "logs/refs/heads/fleet/x").symlink_to(file)


# ── Files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["a checkout", "a bare repository"])
@pytest.mark.parametrize("name", [".bashrc", ".zshrc"])
def test_a_linked_reflog_changes_no_file_outside_the_repository(
    project: Repository, profile: Path, tmp_path: Path, kind: str, name: str
) -> None:
    """Git appends a line with the repository's `user.name` to it."""
    target = project if kind == "a checkout" else repository.clone_bare(project, tmp_path / "shared.git")
    git_folder = Path(target.git("rev-parse", "--absolute-git-dir"))
    store, commit = mirror_with_commit(target)
    local_repository = local_repositories.find(str(target.path))
    poison(git_folder, tmp_path / name)
    with pytest.raises(errors.Invalid, match="is not a regular file"):
        Target(repository=str(target.path), branch="fleet/x").receive(store, commit=commit)
    # The same if the link appears after the check:
    result = local_repository.git(
        "fetch", "--quiet", str(store), f"{commit}:refs/heads/fleet/x", mirror=store, writable=True
    )
    assert result.returncode == 0
    assert target.git("rev-parse", "fleet/x") == commit
    assert profile.read_text() == "true\n"
    assert not (tmp_path / ".zshrc").exists()


def test_without_a_sandbox_a_reflog_contains_no_text_of_the_repository(
    project: Repository, profile: Path, settings: Any
) -> None:
    store, commit = mirror_with_commit(project)
    local_repository = local_repositories.find(str(project.path))
    poison(project.path / ".git", profile)
    settings.FLEET_SANDBOX = False
    result = local_repository.git(
        "fetch", "--quiet", str(store), f"{commit}:refs/heads/fleet/x", mirror=store, writable=True
    )
    assert result.returncode == 0
    assert "fleet/x" in project.git("for-each-ref", "--format=%(refname)", "refs/heads/fleet")
    assert NAME not in profile.read_text()


@pytest.mark.parametrize("name", ["logs", "objects", "refs", "refs/heads", "packed-refs", "HEAD", "config", "index"])
def test_links_in_the_git_folder_are_refused(project: Repository, tmp_path: Path, name: str) -> None:
    store, commit = mirror_with_commit(project)
    project.git("pack-refs", "--all")
    path, elsewhere = project.path / ".git" / name, tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    before = sorted(elsewhere.rglob("*"))
    with pytest.raises(errors.Invalid, match="is not a regular"):
        Target(repository=str(project.path), branch="fleet/x").receive(store, commit=commit)
    assert sorted(elsewhere.rglob("*")) == before


def test_a_linked_folder_of_branches_creates_no_branch_elsewhere(project: Repository, other: Repository) -> None:
    store, commit = mirror_with_commit(project)
    local_repository = local_repositories.find(str(project.path))
    (project.path / ".git/refs/heads/fleet").symlink_to(other.path / ".git/refs/heads")
    with pytest.raises(errors.Invalid, match="is not a regular file"):
        Target(repository=str(project.path), branch="fleet/x").receive(store, commit=commit)
    # The same if the link appears after the check:
    result = local_repository.git(
        "fetch", "--quiet", str(store), f"{commit}:refs/heads/fleet/x", mirror=store, writable=True
    )
    assert result.returncode
    assert not (other.path / ".git/refs/heads/x").exists()


# ── Repositories ─────────────────────────────────────────────────────────────────────────────────────────────────────


def name_git_folder(project: Repository, other: Repository) -> None:
    shutil.rmtree(project.path / ".git")
    (project.path / ".git").write_text(f"gitdir: {other.path}/.git\n")


def name_worktree(project: Repository, other: Repository) -> None:
    """A worktree that the other repository has created for another folder."""
    other.git("worktree", "add", "--quiet", "-b", "second", str(other.path.parent / "second"))
    shutil.rmtree(project.path / ".git")
    (project.path / ".git").write_text(f"gitdir: {other.path}/.git/worktrees/second\n")


def forge_worktree(project: Repository, other: Repository) -> None:
    """A git folder whose `commondir` is that of the other repository."""
    shutil.rmtree(project.path / ".git")
    folder = project.path / "forged/worktrees/x"
    folder.mkdir(parents=True)
    (folder / "commondir").write_text(f"{other.path}/.git\n")
    (folder / "HEAD").write_text("ref: refs/heads/main\n")
    (folder / "gitdir").write_text(f"{project.path}/.git\n")
    (project.path / ".git").write_text(f"gitdir: {folder}\n")


def common_folder(project: Repository, other: Repository) -> None:
    (project.path / ".git/commondir").write_text(f"{other.path}/.git\n")


def link_git_folder(project: Repository, other: Repository) -> None:
    shutil.rmtree(project.path / ".git")
    (project.path / ".git").symlink_to(other.path / ".git")


def link_checkout(project: Repository, other: Repository) -> None:
    shutil.rmtree(project.path)
    project.path.symlink_to(other.path)


def borrow_objects(project: Repository, other: Repository) -> None:
    (project.path / ".git/objects/info/alternates").write_text(f"{other.path}/.git/objects\n")
    (project.path / ".git/refs/heads/main").unlink()
    (project.path / ".git/refs/heads/main").symlink_to(other.path / ".git/refs/heads/main")


def link_ref_and_objects(project: Repository, other: Repository) -> None:
    shutil.rmtree(project.path / ".git/objects")
    (project.path / ".git/objects").mkdir()
    for folder in (other.path / ".git/objects").iterdir():
        if len(folder.name) == 2:
            (project.path / ".git/objects" / folder.name).symlink_to(folder)
    (project.path / ".git/refs/heads/main").unlink()
    (project.path / ".git/refs/heads/main").symlink_to(other.path / ".git/refs/heads/main")


REDIRECTIONS = (
    name_git_folder,
    name_worktree,
    forge_worktree,
    common_folder,
    link_git_folder,
    link_checkout,
    borrow_objects,
    link_ref_and_objects,
)


@pytest.mark.parametrize("redirect", REDIRECTIONS)
def test_a_launch_reads_no_other_repository(
    project: Repository, other: Repository, redirect: Callable[[Repository, Repository], None]
) -> None:
    secret = other.git("rev-parse", "HEAD")
    redirect(project, other)
    for base in ("", "main", secret):
        with pytest.raises(errors.FleetError):
            sources.resolve_base(str(project.path), base)
    with pytest.raises(errors.FleetError):
        mirrors.ensure(str(project.path), commit=secret)


@pytest.mark.parametrize("redirect", REDIRECTIONS)
def test_a_merge_changes_no_other_repository(
    project: Repository, other: Repository, redirect: Callable[[Repository, Repository], None]
) -> None:
    store, commit = mirror_with_commit(project)
    redirect(project, other)
    with pytest.raises(errors.FleetError):
        Target(repository=str(project.path), branch="fleet/x").receive(store, commit=commit)
    assert "fleet" not in other.git("for-each-ref", "--format=%(refname)")


def test_a_folder_that_looks_like_a_repository_shows_nothing_of_the_fleet(
    project: Repository, other: Repository, settings: Any
) -> None:
    """The folder contains the fleet's home, through which its mirrors of other repositories must not be accessible."""
    settings.FLEET_HOME = Home(project.path / ".fleet")
    mirror = mirrors.ensure(str(other.path), commit=(secret := other.git("rev-parse", "HEAD")))
    shutil.rmtree(project.path / ".git")
    for name in ("objects", "refs"):
        (project.path / name).mkdir()
    (project.path / "HEAD").write_text(f"{secret}\n")
    (project.path / "objects/info").mkdir()
    (project.path / "objects/info/alternates").write_text(f"{mirror}/objects\n")
    with pytest.raises(errors.FleetError):
        sources.resolve_base(str(project.path), secret)
    (project.path / "objects/info/alternates").unlink()
    (project.path / "hooks").mkdir()
    local_repository = local_repositories.find(str(project.path))
    result = local_repository.git(
        "list", script=f"ls -A {mirror.parent} {project.path / '.fleet'} 2>&1; true", writable=True
    )
    assert mirror.name.encode() not in result.stdout


def test_a_repository_of_the_fleet_itself_is_refused(project: Repository) -> None:
    mirror = mirrors.ensure(str(project.path), commit=project.git("rev-parse", "HEAD"))
    with pytest.raises(errors.Invalid, match="belongs to the fleet itself"):
        sources.resolve_base(str(mirror), "")


# ── Files that make git wait ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "name",
    [".git", ".git/config", ".git/HEAD", ".git/packed-refs", ".git/commondir", ".git/objects/info/alternates",
     ".git/refs/heads/main", ".git/refs/tags/x", ".git/objects/00", ".git/objects/pack/pack-0.idx", ".git/info/exclude"],
)  # fmt: skip
def test_a_named_pipe_in_the_git_folder_is_refused(project: Repository, name: str) -> None:
    path = project.path / name
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with pytest.raises(errors.Invalid, match=r"neither a folder nor a file|not a regular file") as excinfo:
        sources.resolve_base(str(project.path), "")
    assert "launch from the main checkout" in excinfo.value.hint


# ── Hooks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.django_db(transaction=True)
def test_hooks_of_a_bare_repository_see_nothing_but_the_repository(project: Repository, tmp_path: Path) -> None:
    """Work of a mission that was cleaned up could have written them."""
    shared = repository.clone_bare(project, tmp_path / "build" / "shared.git")
    path = shared.path / "hooks" / "post-receive"
    path.write_text(
        f"#!/bin/sh\ntouch {tmp_path}/trap\ncat {project.path}/a.txt > {shared.path}/stolen\n"
        f'echo "$HOME" > {shared.path}/home; cat /proc/net/dev > {shared.path}/network\n'
    )
    path.chmod(0o755)
    mission = conflicting.landed_mission(shared)
    assert merging.merge(mission=mission.id).outcome == "created"
    assert not (tmp_path / "trap").exists()
    assert (shared.path / "stolen").read_text() == ""
    assert (shared.path / "home").read_text().strip() != os.environ["HOME"]
    assert [line.split(":")[0].strip() for line in (shared.path / "network").read_text().splitlines()[2:]] == ["lo"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only the workload of root may not set the bit")
@pytest.mark.django_db(transaction=True)
def test_a_shared_repository_gets_a_push_whose_hooks_cannot_set_the_setgid_bit(
    project: Repository, tmp_path: Path
) -> None:
    shared = Repository(tmp_path / "shared.git")
    project.git("init", "--quiet", "--bare", "--shared", "--initial-branch=main", str(shared.path))
    for path in (shared.path, *shared.path.rglob("*")):
        os.chown(path, -1, 12_345)
    for path in filter(Path.is_dir, (shared.path, *shared.path.rglob("*"))):
        path.chmod(0o2775)  # chown has cleared it
    project.git("push", "--quiet", str(shared.path), "main")
    before = set(shared.path.rglob("*"))
    hook = shared.path / "hooks" / "post-receive"
    hook.write_text(f"#!/bin/sh\ncp /bin/true {shared.path}/program\nchmod 2755 {shared.path}/program && echo done\n")
    hook.chmod(0o755)
    mission = conflicting.landed_mission(shared)
    assert merging.merge(mission=mission.id, into="team/next").outcome == "created"
    assert shared.git("show", "team/next:new.txt") == "new"
    assert not (shared.path / "program").stat().st_mode & stat.S_ISGID
    created = [path for path in set(shared.path.rglob("*")) - before if path.is_dir()]
    assert shared.path / "refs" / "heads" / "team" in created
    assert {(oct(path.stat().st_mode & 0o7777), path.stat().st_gid) for path in created} == {("0o2775", 12_345)}


# ── What still works ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_linked_worktree_gets_the_commit_in_its_repository(project: Repository, tmp_path: Path) -> None:
    project.git("worktree", "add", "--quiet", "-b", "second", str(tmp_path / "second"))
    receive(Repository(tmp_path / "second"))
    assert project.git("show", "fleet/x:new.txt") == "new"
    target = Target(repository=str(tmp_path / "second"), branch="main")
    assert target.checked_out_in() == str(project.path)


def test_a_submodule_gets_the_commit(project: Repository, tmp_path: Path) -> None:
    library = repository.create(tmp_path / "library", {"lib.py": "1\n"})
    project.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(library.path), "lib")
    submodule = Repository(project.path / "lib")
    receive(submodule)
    assert submodule.git("show", "fleet/x:new.txt") == "new"
