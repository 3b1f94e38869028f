"""A change to files that no one has reserved reserves them; a change to another sortie's files lands after that sortie."""

from __future__ import annotations

from pathlib import Path

import pytest

from missions.models import Change, Conflict, Mission, Sortie
from missions.workspaces import reservations
from tests.support import fleet, repository
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def project(tmp_path: Path) -> repository.Repository:
    return repository.create(tmp_path / "project", {"README.md": "A project\n", "src/app.py": "one\n"})


def launch(project: repository.Repository, sorties: dict[str, object]) -> Mission:
    return fleet.launch(sorties, workspace={"repository": str(project.path)})


def test_a_stray_is_merged_after_the_holder_and_recorded(project: repository.Repository, tmp_path: Path) -> None:
    flag = tmp_path / "go"
    mission = launch(
        project,
        {
            "owner": {
                "run": f"until test -e {flag}; do sleep 0.05; done; echo owner > src/b.py",
                "touches": ["src/**"],
            },
            "stray": {"run": "echo stray > src/c.py", "touches": ["docs/**"]},
        },
    )
    mission.readable = [str(tmp_path)]
    mission.save()
    engine = fleet.engine(slots=2)
    stray = Sortie.objects.get(mission=mission, key="stray")
    try:
        fleet.beat_until(lambda: Conflict.objects.filter(sortie=stray).exists())
        until(lambda: fleet.states(mission.id)["stray"] == "waiting")
        stray.refresh_from_db()
        assert (stray.waits_on, stray.waits_for) == ("merge", "the merge of owner, which has reserved src/**")
        flag.touch()
        assert fleet.run_to_end(engine, mission) == "succeeded"
    finally:
        engine.stop(within_s=5)
    assert repository.branch(mission).subjects() == ["owner: A test", "stray: A test"]
    conflict = Conflict.objects.get(sortie=stray)
    assert (conflict.kind, conflict.outcome, conflict.files, conflict.others) == (
        "stray",
        "ordered",
        ["src/c.py"],
        ["owner"],
    )
    assert conflict.closed_at is not None


def test_files_of_a_change_are_reserved_until_it_is_merged(project: repository.Repository) -> None:
    mission = launch(project, {"edit": {"run": "true"}, "next": {"touches": ["src/app.py"]}})
    edit = Sortie.objects.get(mission=mission, key="edit")
    Sortie.objects.filter(id=edit.id).update(state="waiting", waits_on="merge", attempt=1)
    Change.objects.create(sortie=edit, attempt=1, state="committed", base="0", commit="1", files=["src/app.py"])
    branch = (mission.workspace.repository, mission.workspace.branch)
    assert [reservation.key for _, reservation in reservations.in_force([branch])] == ["edit"]
    Change.objects.update(state="landed")
    assert reservations.in_force([branch]) == []
