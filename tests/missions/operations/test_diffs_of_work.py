"""The diff of a sortie and of a mission: what has landed, what is to be merged, and work in progress."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from fleet import errors
from missions.models import Mission, Sortie
from missions.operations.workspaces import diffs, discarding
from missions.states import SortieState
from tests.support import fleet, repository
from tests.support.repository import Repository
from tests.support.waiting import until
from tests.support.work import conflicting

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def project(tmp_path: Path) -> Repository:
    return repository.create(tmp_path / "project", {"app.py": "one\ntwo\nthree\n", ".gitignore": "*.log\n"})


@contextmanager
def running_mission(project: Repository, script: str) -> Iterator[tuple[Mission, Path]]:
    """A mission whose sortie `edit` has run the script, and ends when the flag exists."""
    flag = project.path.parent / "flags" / "end"
    flag.parent.mkdir()
    mission = fleet.launch(
        {"edit": {"run": f"{script}; touch .git/begun; {conflicting.SLOW.format(flag=flag)}"}},
        readable=[str(flag.parent)],
        workspace={"repository": str(project.path)},
    )
    engine = fleet.engine()

    def run_slot() -> None:
        engine.run_slot()
        connection.close()

    thread = threading.Thread(target=run_slot)
    thread.start()
    try:
        until((copy_of(mission) / ".git" / "begun").exists)
        yield mission, flag
    finally:
        flag.touch()
        thread.join()
        engine.stop(within_s=10)


def copy_of(mission: Mission) -> Path:
    return settings.FLEET_HOME.work / sortie(mission).ref


def sortie(mission: Mission, key: str = "edit") -> Sortie:
    return Sortie.objects.select_related("mission").get(mission=mission, key=key)


def test_the_diff_of_a_sortie_is_what_it_has_landed(project: Repository) -> None:
    mission = conflicting.landed_mission(project, run="sed -i s/two/agent/ app.py; printf '\\0' > data.bin")
    work = diffs.of_sortie(sortie(mission))
    assert (work.state, work.attempt, work.diff.truncated) == ("landed", 1, False)
    assert "-two\n+agent\n" in work.diff.text()
    assert [(file.path, file.added, file.removed) for file in work.diff.files] == [
        ("app.py", 1, 1),
        ("data.bin", None, None),
    ]


def test_a_patch_with_binary_files_can_be_applied(project: Repository) -> None:
    mission = conflicting.landed_mission(project, run="sed -i s/two/agent/ app.py; printf '\\0' > data.bin")
    patch = project.path / "work.patch"
    patch.write_bytes(diffs.of_mission(mission, binary=True).landed.patch)
    project.git("apply", "work.patch")
    assert (project.path / "data.bin").read_bytes() == b"\0"
    assert (project.path / "app.py").read_text() == "one\nagent\nthree\n"


def test_the_diff_of_running_work_is_shown_without_disturbing_it(project: Repository) -> None:
    script = "echo 1 > one.txt; git add one.txt; echo 2 > two.txt; sed -i /three/d app.py; echo x > x.log"
    with running_mission(project, script) as (mission, end):
        copy = copy_of(mission)
        engine = settings.FLEET_HOME.commits / sortie(mission).ref
        before = [(path, path.lstat().st_mtime_ns) for root in (copy, engine) for path in sorted(root.rglob("*"))]
        work = diffs.of_sortie(sortie(mission))
        assert (work.state, work.diff.commit) == ("uncommitted", "")
        assert [file.path for file in work.diff.files] == ["app.py", "one.txt", "two.txt"]
        assert "-three\n" in work.diff.text()
        after = [(path, path.lstat().st_mtime_ns) for root in (copy, engine) for path in sorted(root.rglob("*"))]
        assert after == before
        assert not [path for path in settings.FLEET_HOME.commits.iterdir() if path.name.startswith("reader-")]
        of_mission = diffs.of_mission(mission)
        assert of_mission.landed.files == ()
        assert [(item.sortie.key, item.state) for item in of_mission.unmerged] == [("edit", "uncommitted")]
        end.touch()
        fleet.beat_until(lambda: fleet.state(mission.id) == "succeeded")
    assert repository.branch(mission).files() == [".gitignore", "app.py", "one.txt", "two.txt"]


def test_the_git_configuration_of_a_copy_does_not_affect_its_diff(project: Repository) -> None:
    """The attempt configures programs that change what git reads and shows. None of them is used."""
    script = (
        "echo '*.txt filter=x diff=x' > .gitattributes; cp .gitattributes .git/info/attributes;"
        " git config filter.x.clean 'sed s/new/forged/'; git config diff.x.textconv 'echo forged';"
        " git config core.fsmonitor 'echo'; git config core.excludesFile .git/all; echo '*' > .git/all;"
        " cp .git/all .git/info/exclude; echo new > new.txt"
    )
    with running_mission(project, script) as (mission, _):
        diff = diffs.of_sortie(sortie(mission)).diff
        assert [file.path for file in diff.files] == [".gitattributes", "new.txt"]
        assert "+new\n" in diff.text()


def test_work_that_waits_for_a_person_is_in_the_diff_of_the_mission(project: Repository) -> None:
    mission = conflicting.waiting_for_a_person(project)
    work = diffs.of_mission(mission)
    assert "+early" in work.landed.text()
    assert [(item.sortie.key, item.state) for item in work.unmerged] == [("late", "conflicted")]
    assert "+late" in work.unmerged[0].diff.text()


def test_a_sortie_that_has_not_started_has_no_diff(project: Repository) -> None:
    mission = fleet.launch({"edit": {"run": "true"}}, workspace={"repository": str(project.path)})
    work = diffs.of_sortie(sortie(mission))
    assert (work.state, work.diff.files, work.diff.patch) == ("none", (), b"")
    assert diffs.of_mission(mission).landed.patch == b""


def test_the_changes_of_a_failed_attempt_are_shown(project: Repository) -> None:
    mission = conflicting.landed_mission(project, run="echo new > new.txt; exit 1")
    assert sortie(mission).state == SortieState.FAILED
    work = diffs.of_sortie(sortie(mission))
    assert (work.state, [file.path for file in work.diff.files]) == ("kept", ["new.txt"])
    assert diffs.of_mission(mission).unmerged == ()


def test_a_long_patch_is_cut_off_and_says_so(project: Repository) -> None:
    mission = conflicting.landed_mission(project, run="seq 1 10000 > numbers.txt")
    work = diffs.of_sortie(sortie(mission), max_bytes=1_000)
    assert (len(work.diff.patch), work.diff.truncated) == (1_000, True)
    assert work.diff.lines_added == 10_000


def test_discarded_work_has_no_diff(project: Repository) -> None:
    mission = conflicting.landed_mission(project)
    discarding.discard(mission=mission.id)
    with pytest.raises(errors.Conflict, match="discarded"):
        diffs.of_mission(mission)
