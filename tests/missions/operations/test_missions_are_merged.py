"""What a mission has landed is merged into a branch of the user's repository, and nothing else there is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet import errors
from fleet.audit.models import Entry
from fleet.events.models import Event
from missions.models import Mission
from missions.operations.workspaces import merging
from missions.workspaces.repositories import targets
from tests.support import fleet, repository
from tests.support.repository import Repository
from tests.support.work import conflicting

pytestmark = pytest.mark.django_db(transaction=True)

APP = {"app.py": "one\ntwo\nthree\n"}


@pytest.fixture
def project(tmp_path: Path) -> Repository:
    return repository.create(tmp_path / "project", APP)


@pytest.fixture
def bare(project: Repository, tmp_path: Path) -> Repository:
    """A bare repository to which users push."""
    return repository.clone_bare(project, tmp_path / "shared.git")


def hook(bare: Repository, name: str, script: str) -> None:
    path = bare.path / "hooks" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def state(project: Repository) -> list[str]:
    """The checkout, index, stash and uncommitted work of a user."""
    commands = (
        ["status", "--porcelain"],
        ["stash", "list"],
        ["rev-parse", "HEAD"],
        ["diff", "HEAD"],
        ["diff", "--cached"],
    )
    files = sorted(
        f"{path.relative_to(project.path)} {path.stat().st_mtime_ns}"
        for path in project.path.rglob("*")
        if path.is_file() and ".git" not in path.parts
    )
    return [*(project.git(*command) for command in commands), *files, project.git("ls-files", "--stage")]


def test_the_branch_of_the_mission_is_created_and_the_work_of_the_user_stays_as_it_is(project: Repository) -> None:
    mission = conflicting.landed_mission(project)
    (project.path / "app.py").write_text("one\nstashed\nthree\n")
    project.git("stash")
    (project.path / "app.py").write_text("one\nstaged\nthree\n")
    project.git("add", "app.py")
    (project.path / "app.py").write_text("one\nnot staged\nthree\n")
    (project.path / "untracked.txt").write_text("untracked")
    before = state(project)
    result = merging.merge(mission=mission.id)
    assert (result.branch, result.outcome) == (f"fleet/{mission.ref}", "created")
    assert project.git("show", f"{result.branch}:new.txt") == "new"
    assert project.git("rev-parse", result.branch) == repository.branch(mission).tip == result.commit
    assert state(project) == before
    assert project.git("for-each-ref", "--format=%(refname)").splitlines() == [
        f"refs/heads/{result.branch}",
        "refs/heads/main",
        "refs/stash",
    ]
    assert not (project.path / ".git" / "FETCH_HEAD").exists()


def test_a_merge_is_audited_and_has_an_event(project: Repository) -> None:
    mission = conflicting.landed_mission(project)
    result = merging.merge(mission=mission.id, into="review")
    facts = {"branch": "review", "commit": result.commit, "tip": result.tip, "outcome": "created"}
    assert Event.objects.get(kind="mission.merged").data == {**facts, "repository": str(project.path)}
    assert Entry.objects.get(kind="mission.merge", subject=mission.ref).after == facts


def test_a_branch_is_moved_forward(project: Repository) -> None:
    mission = conflicting.landed_mission(project)
    project.git("branch", "next")
    result = merging.merge(mission=mission.id, into="next")
    assert result.outcome == "fast-forwarded"
    assert project.git("rev-parse", "next") == repository.branch(mission).tip


def test_a_repeated_merge_has_nothing_left_to_do(project: Repository) -> None:
    mission = conflicting.landed_mission(project)
    first, second = (merging.merge(mission=mission.id, into="next") for _ in range(2))
    assert (first.outcome, second.outcome) == ("created", "unchanged")
    assert first.commit == second.commit


def test_a_branch_that_has_moved_on_gets_a_merge_commit(project: Repository) -> None:
    mission = conflicting.landed_mission(project)
    project.git("switch", "--quiet", "--create", "next")
    theirs = project.commit({"theirs.txt": "theirs\n"})
    project.git("switch", "--quiet", "main")
    result = merging.merge(mission=mission.id, into="next")
    assert result.outcome == "merged"
    assert project.git("rev-parse", "next^1", "next^2").split() == [theirs, repository.branch(mission).tip]
    assert project.git("ls-tree", "--name-only", "next").split() == ["app.py", "new.txt", "theirs.txt"]


def test_a_conflict_with_the_branch_is_refused_with_its_files(project: Repository) -> None:
    mission = conflicting.landed_mission(project, run="sed -i s/two/agent/ app.py")
    project.git("switch", "--quiet", "--create", "next")
    theirs = project.commit({"app.py": "one\ntheirs\nthree\n"})
    project.git("switch", "--quiet", "main")
    with pytest.raises(errors.Conflict, match=r"conflicts with next in app\.py"):
        merging.merge(mission=mission.id, into="next")
    assert project.git("rev-parse", "next") == theirs
    assert not Event.objects.filter(kind="mission.merged").exists()


@pytest.mark.parametrize("namesake", ["refs/remotes/origin/next", "refs/tags/origin/next"])
def test_a_new_branch_is_not_named_like_a_tag_or_a_branch_of_a_remote(project: Repository, namesake: str) -> None:
    mission = conflicting.landed_mission(project)
    project.git("update-ref", namesake, "HEAD")
    before = project.git("for-each-ref")
    with pytest.raises(errors.Conflict, match=f"a new branch origin/next from {namesake}"):
        merging.merge(mission=mission.id, into="origin/next")
    assert project.git("for-each-ref") == before
    assert merging.merge(mission=mission.id, into="origin").outcome == "created"


@pytest.mark.parametrize("location", ["the checkout", "another worktree", "a rebase"])
def test_a_branch_that_is_checked_out_is_never_moved(project: Repository, tmp_path: Path, location: str) -> None:
    mission = conflicting.landed_mission(project)
    branch = "main"
    if location != "the checkout":
        branch = "next"
        project.git("worktree", "add", "--quiet", "-b", "next", str(tmp_path / "elsewhere"))
    if location == "a rebase":
        other_repository = Repository(tmp_path / "elsewhere")
        other_repository.commit({"app.py": "one\nnext\nthree\n"})
        project.commit({"app.py": "one\nmain\nthree\n"})
        with pytest.raises(Exception, match="rebase"):
            other_repository.git("rebase", "main")
    before = project.git("rev-parse", branch)
    with pytest.raises(errors.Conflict, match="checked out"):
        merging.merge(mission=mission.id, into=branch)
    assert project.git("rev-parse", branch) == before
    assert not Event.objects.filter(kind="mission.merged").exists()


def test_a_bare_repository_gets_the_branch_by_a_push_so_that_its_hooks_run(bare: Repository) -> None:
    hook(bare, "post-receive", f"cat > {bare.path}/received")
    mission = conflicting.landed_mission(bare)
    result = merging.merge(mission=mission.id)
    assert bare.git("rev-parse", result.branch) == repository.branch(mission).tip
    assert (bare.path / "received").read_text().split()[2] == f"refs/heads/{result.branch}"


@pytest.mark.parametrize("name", ["pre-receive", "update"])
def test_the_refusal_of_a_hook_is_reported_and_nothing_counts_as_merged(bare: Repository, name: str) -> None:
    hook(bare, name, "echo 'Only reviewed work is accepted.' >&2; exit 1")
    mission = conflicting.landed_mission(bare)
    with pytest.raises(targets.Rejected, match=r"Only reviewed work is accepted\."):
        merging.merge(mission=mission.id)
    assert bare.git("for-each-ref", "--format=%(refname)") == "refs/heads/main"
    assert not Event.objects.filter(kind="mission.merged").exists()


def test_a_repository_that_loses_an_accepted_push_is_detected(bare: Repository) -> None:
    hook(bare, "post-receive", "read old new ref; git update-ref -d $ref")
    mission = conflicting.landed_mission(bare)
    with pytest.raises(errors.Conflict, match="it was not merged"):
        merging.merge(mission=mission.id)
    assert not Event.objects.filter(kind="mission.merged").exists()


def test_a_mission_that_has_landed_nothing_has_nothing_to_merge(project: Repository) -> None:
    mission = fleet.launch({"edit": {"run": "true"}}, workspace={"repository": str(project.path)})
    with pytest.raises(errors.Conflict, match="has not landed anything yet"):
        merging.merge(mission=mission.id)


def test_merging_a_mission_without_a_workspace_is_refused(db: None) -> None:
    mission = fleet.launch({"edit": {}})
    with pytest.raises(errors.NotFound, match="has no workspace"):
        merging.merge(mission=mission.id)


@pytest.mark.parametrize("name", ["-f", "a..b", "a b", "refs//x", ":main"])
def test_an_invalid_branch_name_is_refused(project: Repository, name: str) -> None:
    mission = conflicting.landed_mission(project)
    with pytest.raises(errors.Invalid, match="not a valid name for a branch"):
        merging.merge(mission=mission.id, into=name)


def test_a_repository_that_is_gone_is_unavailable(project: Repository) -> None:
    mission = Mission.objects.get(id=conflicting.landed_mission(project).id)
    project.path.rename(project.path.with_name("elsewhere"))
    with pytest.raises(errors.Unavailable, match="cannot be read"):
        merging.merge(mission=mission.id)


def test_programs_that_the_repository_configures_do_not_run(project: Repository, tmp_path: Path) -> None:
    trap, mission = tmp_path / "trap", conflicting.landed_mission(project)
    program = f"sh -c 'touch {trap}'"
    mirror = repository.branch(mission).mirror
    other = repository.create(project.path / "other", APP)  # the project borrows its objects
    (project.path / ".git/objects/info/alternates").write_text(f"{other.path}/.git/objects\n")
    for name, value in {
        "core.alternateRefsCommand": program,
        "core.fsmonitor": program,
        "core.sshCommand": program,
        "core.hooksPath": str(tmp_path / "hooks"),
        f"remote.{mirror}.uploadpack": program,
        "gc.auto": "1",
        "gc.recentObjectsHook": program,
        "protocol.allow": "always",
        "protocol.ext.allow": "always",
    }.items():
        project.git("config", name, value)
    (tmp_path / "hooks").mkdir()
    for name in ("reference-transaction", "post-merge", "pre-auto-gc", "post-rewrite"):
        (tmp_path / "hooks" / name).write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / "hooks" / name).chmod(0o755)
    assert merging.merge(mission=mission.id).outcome == "created"
    assert not trap.exists()
    project.git("config", f"url.ext::{program} .insteadOf", str(mirror))
    with pytest.raises(targets.Rejected, match="transport 'ext' not allowed"):
        merging.merge(mission=mission.id, into="next")
    assert not trap.exists()
