"""Launch missions with a workspace, restore missions, and run them to their end."""

from __future__ import annotations

from typing import Any

from django.db.models.functions import Now

from checkpoints import operations
from checkpoints.models import Checkpoint
from missions import operations as missions
from missions.models import Mission, Sortie
from missions.workspaces.repositories import git
from tests.support import fleet, repository
from tests.support.repository import Repository

TWO_SORTIES = {"first": {"run": "echo 1 > one.txt"}, "second": {"run": "echo 2 > two.txt", "needs": ["first"]}}


def launch(project: Repository, sorties: dict[str, Any] = TWO_SORTIES, **plan: Any) -> Mission:
    return fleet.launch(sorties, workspace={"repository": str(project.path)}, folder=str(project.path), **plan)


def restore(checkpoint: Checkpoint) -> operations.MissionRestoreResult:
    return operations.restore(checkpoint=checkpoint, can_execute=True)


def finish(mission: Mission) -> str:
    """Resume a restored mission without waiting for earlier attempts, and run it to its end."""
    missions.resume(mission=mission.id, can_execute=True)
    Sortie.objects.filter(mission=mission, state="waiting").update(wake_at=Now())
    engine = fleet.engine()
    try:
        return fleet.run_to_end(engine, mission)
    finally:
        engine.stop(within_s=5)


def refs(mission: Mission, prefix: str) -> dict[str, str]:
    """The refs of the mission's mirror below a prefix, with their commits."""
    output = git.line("for-each-ref", "--format=%(refname) %(objectname)", prefix, at=repository.branch(mission).mirror)
    return dict(row.split(" ") for row in output.splitlines())
