"""A process that is killed at any point while it removes copies or discards work loses nothing that is unmerged."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.conf import settings
from django.db import connections
from django.test import override_settings

from missions.models import Attempt, Change, Mission, Sortie
from missions.operations import cleaning
from missions.operations.workspaces import merging, tidying
from missions.workspaces.repositories import git, mirrors
from tests.support import repository
from tests.support.repository import Repository
from tests.support.work import conflicting

pytestmark = pytest.mark.django_db(transaction=True)

WRITING_COMMANDS = {"update-ref", "commit-tree", "fetch"}


def run_and_kill(step: int, operation: Callable[[], object]) -> bool:
    """Run an operation in a fork that is killed before its n-th change to the folders of copies or to the mirror.

    Returns False if it ended before.
    """
    connections.close_all()  # the fork must not share a connection with this process
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _kill_before_change(step)
            with override_settings(FLEET_CHECKPOINT_ON=[]):
                operation()
            code = 0
        except Exception:
            traceback.print_exc()
        finally:  # whatever happens, the fork must not go on with the other tests
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


def _kill_before_change(step: int) -> None:
    changes = itertools.count(1)

    def on_event(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "subprocess.Popen" and WRITING_COMMANDS & set(map(str, arguments[1]))
        if (writes or event in ("os.rename", "shutil.rmtree")) and next(changes) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(on_event)


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
        was_killed = run_and_kill(step, partial(tidying.remove_copies, [sortie.id]))
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
        was_killed = run_and_kill(step, partial(cleaning.remove, missions=[mission.id, unmerged.id]))
        cleaning.remove(missions=[mission.id, unmerged.id])
        assert list(Mission.objects.values_list("id", flat=True)) == [unmerged.id], step
        assert repository.branch(unmerged).read("unmerged.txt") == "unmerged\n", step
        assert project.git("show", f"fleet/{mission.ref}:new.txt") == "new", step
    assert step > 5
