"""fleet_cleanup shows the copies, mirrors and missions that it would remove, and keeps everything unmerged."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from django.conf import settings

from checkpoints import operations as checkpoints
from checkpoints.models import Checkpoint
from fleet import ids
from missions import removal
from missions.control import background
from missions.models import Mission, Sortie
from missions.workspaces.repositories import mirrors
from tests.support import repository
from tests.support.console import CommandResult, manage
from tests.support.repository import Repository
from tests.support.work import conflicting

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def empty_home() -> None:
    """Remove copies and mirrors that other tests have left without rows."""
    for folder in (settings.FLEET_HOME.work, settings.FLEET_HOME.commits, settings.FLEET_HOME.repositories):
        removal.remove(folder)


def cleanup(*arguments: str) -> CommandResult:
    return manage("fleet_cleanup", "--most", "0", *arguments)


def copy_of(mission: Mission) -> Path:
    return settings.FLEET_HOME.work / Sortie.objects.get(mission=mission).ref


def test_cleanup_without_yes_only_lists(project: Repository) -> None:
    mission = conflicting.landed_mission(project)
    stderr = cleanup().err
    assert "finished mission" not in stderr
    assert "Would remove 1 copy of a repository.\n" in stderr
    assert stderr.endswith("This was a dry run. To clean up: ./manage.py fleet_cleanup --most 0 --yes\n")
    assert f"{mission.ref} is kept, because 1 commit is not merged." in stderr
    assert copy_of(mission).exists()
    assert repository.branch(mission).read("new.txt") == "new\n"
    document = cleanup("--json").json
    assert (document["copies"], document["dry_run"]) == (1, True)
    assert [entry["mission"] for entry in document["unmerged"]] == [mission.ref]


def test_unmerged_work_stays_and_only_its_copies_are_removed(project: Repository) -> None:
    mission = conflicting.landed_mission(project)
    result = cleanup("--yes")
    assert "Removed 1 copy of a repository.\n" in result.err
    assert not copy_of(mission).exists()
    assert Mission.objects.filter(id=mission.id).exists()
    assert repository.branch(mission).read("new.txt") == "new\n"


def test_the_commands_that_it_prints_resolve_the_unmerged_work(project: Repository) -> None:
    mission = conflicting.landed_mission(project)
    line = next(line for line in cleanup().err.splitlines() if "Merge it: " in line)
    arguments = shlex.split(line.partition("Merge it: ")[2])
    assert manage(*arguments[arguments.index("fleet_mission") :]).code == 0
    assert cleanup("--yes").code == 0
    assert not Mission.objects.filter(id=mission.id).exists()
    assert project.git("show", f"fleet/{mission.ref}:new.txt") == "new"


def test_a_mirror_goes_with_the_last_checkpoint_of_its_missions(project: Repository) -> None:
    mission = conflicting.landed_mission(project)
    manage("fleet_mission", "merge", mission.ref)
    kept = cleanup("--yes", "--json").json["kept"]
    mirror = mirrors.of(str(project.path))
    assert str(mirror) in [item["path"] for item in kept]
    for checkpoint in Checkpoint.objects.all():
        checkpoints.delete(checkpoint=checkpoint)
    assert cleanup("--json").json["mirrors"] >= 1
    assert cleanup("--yes", "--json").json["mirrors"] >= 1
    assert not mirror.exists()


def test_a_copy_of_an_unknown_sortie_is_kept_and_named() -> None:
    unknown = settings.FLEET_HOME.work / ids.encode(ids.SORTIE, ids.new())
    unknown.mkdir(parents=True)
    try:
        kept = {item["path"]: item["reason"] for item in cleanup("--yes", "--json").json["kept"]}
        assert kept[str(unknown)] == "Its sortie is not in the database."
        assert unknown.exists()
    finally:
        unknown.rmdir()


def test_the_control_process_removes_copies_every_hour(project: Repository) -> None:
    mission = conflicting.landed_mission(project)
    (duty,) = [duty for duty in background._duties if duty.name == "copies of repositories"]
    assert duty.every_s == 3_600
    duty.run()
    assert not copy_of(mission).exists()
