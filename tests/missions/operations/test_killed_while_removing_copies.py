"""A process that is killed at any point while it removes copies or discards work loses nothing that is unmerged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from django.conf import settings
from django.db import connection

from missions.models import Attempt, Change, Mission, Sortie
from missions.operations import cleaning
from missions.operations.workspaces import merging, tidying
from missions.workspaces.repositories import git, mirrors
from tests.support import repository
from tests.support.repository import Repository
from tests.support.work import conflicting

pytestmark = pytest.mark.django_db(transaction=True)

# Kills the process before the n-th change to the folders of copies or to the mirror.
SCRIPT = """
import os, signal, sys
import django
from django.conf import settings
django.setup()
settings.DATABASES["default"]["NAME"] = sys.argv[1]
from uuid import UUID
count = 0
def before(event, arguments):
    global count
    writes = event == "subprocess.Popen" and {"update-ref", "commit-tree", "fetch"} & set(map(str, arguments[1]))
    if writes or event in ("os.rename", "shutil.rmtree"):
        count += 1
        if count == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(before)
from missions.operations import cleaning
from missions.operations.workspaces import tidying
if sys.argv[3] == "copies":
    tidying.remove_copies([UUID(sys.argv[4])])
else:
    cleaning.remove(missions=[UUID(text) for text in sys.argv[4:]])
"""


def run_and_kill(step: int, operation: str, *subjects: object) -> bool:
    """Run an operation in another process that is killed at this step. Returns False if it ended before."""
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "fleet.settings", "FLEET_CHECKPOINT_ON": ""}
    name = str(connection.settings_dict["NAME"])
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, name, str(step), operation, *map(str, subjects)],
        env=env,
        capture_output=True,
        text=True,
    )
    assert process.returncode in (0, -signal.SIGKILL), process.stderr
    return process.returncode != 0


def test_uncommitted_work_survives_every_kill(project: Repository) -> None:
    step = 0
    while True:
        step += 1
        mission = conflicting.landed_mission(project, run="echo kept > new.txt; exit 1")
        sortie = Sortie.objects.get(mission=mission)
        Change.objects.filter(sortie=sortie).delete()  # as if the agent had been lost before the commit
        Attempt.objects.filter(sortie=sortie).update(state="lost")
        ref = f"refs/fleet/attempts/{sortie.ref}/1"
        git.execute("update-ref", "-d", ref, at=mirrors.of(str(project.path)))
        was_killed = run_and_kill(step, "copies", sortie.id)
        tidying.remove_copies([sortie.id])
        assert git.run("show", f"{ref}:new.txt", at=mirrors.of(str(project.path))) == b"kept\n", step
        assert Change.objects.get(sortie=sortie).state == "kept", step
        assert not (settings.FLEET_HOME.work / sortie.ref).exists()
        if not was_killed:
            break
    assert step > 5


def test_unmerged_work_of_a_mission_survives_every_kill(project: Repository) -> None:
    unmerged = conflicting.landed_mission(project, run="echo unmerged > unmerged.txt")
    step, was_killed = 0, True
    while was_killed:
        step += 1
        mission = conflicting.landed_mission(project)
        merging.merge(mission=mission.id)
        was_killed = run_and_kill(step, "missions", mission.id, unmerged.id)
        cleaning.remove(missions=[mission.id, unmerged.id])
        assert list(Mission.objects.values_list("id", flat=True)) == [unmerged.id], step
        assert repository.branch(unmerged).read("unmerged.txt") == "unmerged\n", step
        assert project.git("show", f"fleet/{mission.ref}:new.txt") == "new", step
    assert step > 5
