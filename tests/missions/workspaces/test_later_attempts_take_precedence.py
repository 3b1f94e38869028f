"""An agent that continues after its lease has ended does not disturb the copy or the rows of its successor."""

from __future__ import annotations

import subprocess
import threading

import pytest

from missions.engine.outages import Stopped
from missions.models import Change, Conflict, Mission, VerifiedTree
from missions.workspaces import copies
from missions.workspaces.repositories import git
from tests.support import fleet, repository
from tests.support.repository import Repository
from tests.support.work import landing

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def mission(project: Repository) -> Mission:
    return fleet.launch(
        {"edit": {"run": "true"}, "other": {"run": "true"}}, workspace={"repository": str(project.path)}
    )


def test_a_halted_attempt_does_not_rebuild_the_copy(mission: Mission) -> None:
    old = landing.begin(mission, "edit")
    new = landing.begin(mission, "edit")
    new.work("echo new > new")
    with pytest.raises(copies.Superseded):
        old.work("true")
    assert (new.workspace.copy.path / "new").read_text() == "new\n"


def test_a_halted_attempt_neither_commits_nor_saves_the_work_of_its_successor(mission: Mission) -> None:
    old = landing.begin(mission, "edit")
    old.work("echo old > old")
    new = landing.begin(mission, "edit")
    new.work("echo new > new")
    with pytest.raises(copies.Superseded):
        old.commit()
    old.workspace.keep()
    assert not Change.objects.exists()
    assert new.settle(new.merge(new.commit()))
    assert repository.branch(mission).files() == ["app.py", "new"]


def test_a_halted_attempt_does_not_replace_a_later_change(mission: Mission) -> None:
    """It committed before it was halted, and writes its row after it continues."""
    old = landing.begin(mission, "edit")
    old.work("echo old > new")
    late = old.workspace.copy
    commit = old.workspace._commit(1, base=old.workspace.tip, secret="")
    new = landing.begin(mission, "edit")
    assert new.workspace.leftover == 1
    new.work("echo new > new")
    new.commit()
    with pytest.raises(Stopped):
        old.workspace.records.save(commit, state=Change.State.COMMITTED)
    assert list(Change.objects.values_list("attempt", "state")) == [(2, "committed")]
    assert late.exists


def test_a_halted_attempt_records_no_conflict(mission: Mission) -> None:
    old = landing.begin(mission, "edit")
    old.work("sed -i s/two/edit/ app.py")
    change = old.commit()
    assert landing.land(mission, "other", "sed -i s/two/other/ app.py") == "succeeded"
    new = landing.begin(mission, "edit")
    with pytest.raises(Stopped):
        old.workspace.records.record_conflict(change, kind=Conflict.Kind.MERGE, files=["app.py"])
    assert not Conflict.objects.exists()
    assert new.merge().waits_on == "time"
    change.refresh_from_db()
    assert change.state == "conflicted"
    assert not VerifiedTree.objects.exists()


def test_the_work_that_a_lost_attempt_left_is_kept_before_the_copy_is_rebuilt(mission: Mission) -> None:
    old = landing.begin(mission, "edit")
    old.work("echo old > old")
    new = landing.begin(mission, "edit")
    new.work("test ! -e old; echo new > new")
    branch = repository.branch(mission)
    ref = f"refs/fleet/attempts/{new.workspace.copy.path.name}/1"
    assert git.line("ls-tree", "-r", "--name-only", ref, at=branch.mirror).splitlines() == ["app.py", "old"]


def test_git_processes_of_a_killed_engine_end_before_the_copy_is_rebuilt(mission: Mission) -> None:
    """A checkout of a large repository continues after the process that started it was killed."""
    old = landing.begin(mission, "edit")
    with copies.lock(old.workspace.copy, attempt=1) as descriptor:
        survivor = subprocess.Popen(["sleep", "600"], pass_fds=[descriptor])
    new = landing.begin(mission, "edit")
    builder = threading.Thread(target=lambda: new.work("echo new > new"))
    builder.start()
    builder.join(1)
    assert builder.is_alive()
    assert not (new.workspace.copy.path / "new").exists()
    survivor.kill()
    survivor.wait()
    builder.join(60)
    assert (new.workspace.copy.path / "new").exists()


def test_an_index_lock_that_a_killed_process_left_is_removed(mission: Mission) -> None:
    step = landing.begin(mission, "edit")
    step.work("echo new > new")
    (step.workspace.copy.engine / "index.lock").touch()
    change = step.commit()
    (step.workspace.copy.engine / "index.lock").touch()
    next_attempt = landing.begin(mission, "edit")
    assert next_attempt.settle(next_attempt.merge(change))
    assert repository.branch(mission).files() == ["app.py", "new"]


@pytest.mark.parametrize(
    "script",
    [
        "rm -rf {0}",
        "rm -rf {0}; touch {0}",
        "rm -rf {0}; ln -s /etc {0}",
        "rm -rf {0}; ln -s /gone {0}",
        "rm -rf {0}; mkfifo {0}",
    ],
)
def test_a_copy_that_was_removed_or_replaced_is_built_again(mission: Mission, script: str) -> None:
    step = landing.begin(mission, "edit")
    step.work("true")
    subprocess.run(["/bin/sh", "-c", script.format(step.workspace.copy.path)], check=True)
    next_attempt = landing.begin(mission, "edit")
    next_attempt.work("echo new > new")
    assert next_attempt.settle(next_attempt.merge(next_attempt.commit()))


def test_a_copy_that_is_gone_when_a_later_attempt_merges_is_built_for_verify(project: Repository) -> None:
    """The attempt that merges may run on another host."""
    mission = fleet.launch(
        {"edit": {"run": "true"}},
        workspace={
            "repository": str(project.path),
            "setup": "touch ready.log",
            "verify": "test -e ready.log && test -e new",
        },
    )
    step = landing.begin(mission, "edit")
    step.work("echo new > new; echo '*.log' > .gitignore")
    step.commit()
    for folder in (step.workspace.copy.path, step.workspace.copy.engine):
        subprocess.run(["rm", "-rf", str(folder)], check=True)
    next_attempt = landing.begin(mission, "edit")
    settlement = next_attempt.merge()
    assert settlement.state == "succeeded", settlement.error


def test_a_setup_that_fails_before_verify_fails_the_attempt_and_is_no_conflict(project: Repository) -> None:
    mission = fleet.launch(
        {"edit": {"run": "true"}, "other": {"run": "true"}},
        workspace={"repository": str(project.path), "setup": "test ! -e broken", "verify": "true"},
    )
    step = landing.begin(mission, "edit")
    step.work("touch broken")
    step.commit()
    assert landing.land(mission, "other", "echo other > other") == "succeeded"
    for folder in (step.workspace.copy.path, step.workspace.copy.engine):
        subprocess.run(["rm", "-rf", str(folder)], check=True)
    next_attempt = landing.begin(mission, "edit")
    next_attempt.workspace.workspace.setup = "false"  # as if the network were down
    settlement = next_attempt.merge()
    assert (settlement.state, settlement.outcome) == ("failed", "failed")
    assert "`setup` of the workspace failed" in settlement.error
    assert not Conflict.objects.exists()
