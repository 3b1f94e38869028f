"""Missions whose sorties change a repository, with and without a conflict, run by an engine in the test's process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from missions.models import Mission, Sortie
from tests.support import fleet
from tests.support.repository import Repository
from tests.support.waiting import until

# Waits until the other sortie has landed, so that the two always conflict.
SLOW = "until test -e {flag}; do sleep 0.05; done"


def landed_mission(project: Repository, *, run: str = "echo new > new.txt", **workspace: Any) -> Mission:
    """A mission that has ended, with one sortie `edit`."""
    mission = fleet.launch({"edit": {"run": run}}, workspace={"repository": str(project.path), **workspace})
    fleet.run_mission(mission)
    return Mission.objects.get(id=mission.id)


def launch(project: Repository, *, others: Mapping[str, Any] | None = None, **workspace: Any) -> Mission:
    """Two sorties that change the second line of app.py; `late` ends only after `early` and `others` have landed.

    The next attempt of `late` resolves the conflict.
    """
    flag = project.path / "flag"
    late = (
        f'if test -z "$FLEET_CONFLICT"; then sed -i s/two/late/ app.py; {SLOW.format(flag=flag)};'
        ' else printf "one\\nboth\\nthree\\n" > app.py; fi'
    )
    return fleet.launch(
        {
            "early": {"run": "sed -i s/two/early/ app.py"},
            **(others or {}),
            "flag": {"run": f"touch {flag}", "needs": ["early", *(others or {})], "workspace": False},
            "late": {"run": late},
            "after": {"run": "echo after > after.txt", "needs": ["late"]},
        },
        folder=str(project.path),
        readable=[str(project.path)],
        workspace={"repository": ".", **workspace},
    )


def waiting_for_a_person(project: Repository) -> Mission:
    """A running mission whose sortie `late` waits for a person to resolve its conflict."""
    mission = launch(project, conflicts="manual")
    wait_for_a_person(mission)
    (project.path / "flag").unlink()
    return mission


def wait_for_a_person(mission: Mission) -> None:
    """Run a mission until its sortie `late` waits for a person."""
    engine = fleet.engine(slots=3)

    def waits() -> bool:
        engine.run_slot()
        fleet.beat()
        return Sortie.objects.filter(mission=mission, key="late", state="waiting", waits_on="person").exists()

    try:
        until(waits)
    finally:
        engine.stop(within_s=5)
