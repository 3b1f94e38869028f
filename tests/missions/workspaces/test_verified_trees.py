"""The tree that was verified is the tree that lands."""

from __future__ import annotations

from pathlib import Path

import pytest

from missions.models import Attempt, Change, Conflict, Mission, Sortie
from tests.support import fleet, repository
from tests.support.repository import Repository
from tests.support.work import landing

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def project(tmp_path: Path) -> Repository:
    return repository.create(tmp_path / "project", {".gitignore": "*.log\n", "app.py": "one\n", "sub/here": "\n"})


def launch(project: Repository, *keys: str, verify: str = "", **sortie: object) -> Mission:
    workspace = {"repository": str(project.path), **({"verify": verify} if verify else {})}
    return fleet.launch({key: {"run": "echo two >> app.py", **sortie} for key in keys}, workspace=workspace)


def test_changes_made_by_verify_do_not_land(project: Repository) -> None:
    mission = launch(project, "edit", verify="echo three >> app.py; echo x > new; rm sub/here; exit 0")
    assert fleet.run_mission(mission) == "succeeded"
    assert repository.branch(mission).files() == [".gitignore", "app.py", "sub/here"]
    assert repository.branch(mission).read("app.py") == "one\ntwo\n"


def test_a_tree_that_verify_itself_has_changed_is_verified_again(project: Repository) -> None:
    mission = fleet.launch(
        {"edit": {"run": "echo two >> app.py", "verify": "test ! -e stamp && touch stamp"}},
        workspace={"repository": str(project.path)},
    )
    assert fleet.run_mission(mission) == "failed"
    assert repository.branch(mission).subjects() == []


def test_an_equal_command_of_the_sortie_and_of_the_workspace_runs_for_both(project: Repository) -> None:
    """They run in different folders. The file exists in that of the sortie, but not in the repository."""
    mission = fleet.launch(
        {"edit": {"run": "echo two >> ../app.py", "cwd": "sub", "verify": "test -e here"}},
        workspace={"repository": str(project.path), "verify": "test -e here"},
    )
    assert fleet.run_mission(mission) == "failed"
    assert "`verify` of the workspace failed" in Attempt.objects.get(sortie__mission=mission).error


def test_files_that_git_does_not_track_are_gone_before_verify_but_ignored_ones_stay(project: Repository) -> None:
    verify = "test ! -e left && test ! -e left.d && test -e ignored.log && touch left && mkdir left.d && touch left.d/x"
    mission = fleet.launch(
        {
            "edit": {
                "run": "echo two >> app.py; touch ignored.log",
                "verify": "test -e ignored.log; mkdir empty; git init -q r",
            }
        },
        workspace={"repository": str(project.path), "verify": f"{verify} && test ! -e empty"},
    )
    assert (
        fleet.run_mission(mission) == "failed"
    )  # the sortie's own verify leaves a git repository, which is not committed
    mission = fleet.launch(
        {"edit": {"run": "echo two >> app.py; touch ignored.log; mkdir empty"}},
        workspace={"repository": str(project.path), "verify": f"{verify} && test ! -e empty"},
    )
    assert fleet.run_mission(mission) == "succeeded"


def test_verify_sees_the_commit_that_lands_checked_out(project: Repository) -> None:
    verify = 'test -z "$(git status --porcelain)" && git log -1 --format=%s | grep -q "edit: A test" && git diff --quiet HEAD'
    mission = launch(project, "edit", verify=verify)
    assert fleet.run_mission(mission) == "succeeded"


def test_work_that_fails_although_nothing_else_has_landed_is_a_failed_try_and_no_conflict(project: Repository) -> None:
    mission = launch(project, "edit", verify="false")
    assert fleet.run_mission(mission) == "failed"
    sortie = Sortie.objects.get(mission=mission)
    assert (sortie.tries, Conflict.objects.filter(sortie=sortie).count()) == (1, 0)
    assert Change.objects.get(sortie=sortie).state == "kept"


def test_work_that_merges_cleanly_but_fails_together_with_what_has_landed_is_a_conflict(project: Repository) -> None:
    mission = launch(project, "early", "late", verify="test ! -e a || test ! -e b")
    late = landing.begin(mission, "late")
    late.work("touch b")
    change = late.commit()
    assert landing.land(mission, "early", "touch a") == "succeeded"
    settlement = late.merge(change)
    assert (settlement.state, settlement.waits_on, settlement.charge) == ("waiting", "time", 0)
    conflict = Conflict.objects.get(sortie__mission=mission)
    assert (conflict.kind, conflict.outcome, conflict.others) == ("verify", "rework", ["early"])
    assert repository.branch(mission).files() == [".gitignore", "a", "app.py", "sub/here"]


def test_work_that_the_branch_contains_already_is_recognised(project: Repository) -> None:
    mission = launch(project, "early", "late", verify="echo ran >> runs.log; test $(wc -l < app.py) = 2")
    late = landing.begin(mission, "late")
    late.work("echo two >> app.py")
    change = late.commit()
    assert landing.land(mission, "early", "echo two >> app.py") == "succeeded"
    tip = repository.branch(mission).tip
    settlement = late.merge(change)
    assert late.settle(settlement)
    assert settlement.state == "succeeded"
    assert repository.branch(mission).tip == tip
    assert not (late.workspace.copy.path / "runs.log").exists(), "the tree had already been verified"
    change.refresh_from_db()
    assert (change.state, change.landed) == ("landed", tip)
