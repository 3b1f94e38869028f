"""Each sortie works in a copy of the repository, and its changes land on the mission's branch."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.conf import settings

from missions.models import Change, Sortie
from missions.queries import sortie_json
from tests.support import fleet, repository
from tests.support.work import conflicting

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def project(tmp_path: Path) -> repository.Repository:
    return repository.create(tmp_path / "project", {"README.md": "A project\n", "app.py": "one\ntwo\nthree\n"})


def test_the_changes_of_a_sortie_land_on_the_branch_and_the_checkout_stays_unchanged(
    project: repository.Repository,
) -> None:
    mission = fleet.launch(
        {"edit": {"run": "echo four >> app.py; mkdir docs; echo new > docs/a.md; git rm -q README.md"}},
        folder=str(project.path),
        workspace={"repository": "."},
    )
    engine = fleet.engine()
    try:
        assert fleet.run_to_end(engine, mission) == "succeeded", [
            (item["error"], item["waits_for"]) for item in sortie_json.of_mission(mission)
        ]
    finally:
        engine.stop(within_s=5)
    branch = repository.branch(mission)
    assert branch.files() == ["app.py", "docs/a.md"]
    assert branch.read("app.py") == "one\ntwo\nthree\nfour\n"
    assert branch.subjects() == ["edit: A test"]
    assert project.git("status", "--porcelain") == ""
    change = Change.objects.get(sortie=Sortie.objects.get(mission=mission))
    assert (change.state, change.files, change.lines_added, change.lines_removed) == (
        "landed",
        ["README.md", "app.py", "docs/a.md"],
        2,
        1,
    )


def test_a_sortie_starts_from_the_changes_that_its_needs_have_landed(project: repository.Repository) -> None:
    mission = fleet.launch(
        {
            "first": {"run": "echo 1 > one.txt"},
            "second": {"run": "cat one.txt > two.txt; echo 2 >> two.txt", "needs": ["first"]},
        },
        workspace={"repository": str(project.path)},
    )
    engine = fleet.engine()
    try:
        assert fleet.run_to_end(engine, mission) == "succeeded"
    finally:
        engine.stop(within_s=5)
    assert repository.branch(mission).read("two.txt") == "1\n2\n"


def test_sorties_that_end_at_the_same_time_all_land(project: repository.Repository) -> None:
    mission = fleet.launch(
        {f"part{number}": {"run": f"echo {number} > part{number}.txt"} for number in range(8)},
        workspace={"repository": str(project.path), "verify": "test $(ls part*.txt | wc -l) -ge 1"},
    )
    engine = fleet.engine(slots=4)
    try:
        assert fleet.run_to_end(engine, mission) == "succeeded"
    finally:
        engine.stop(within_s=5)
    branch = repository.branch(mission)
    assert [name for name in branch.files() if name.startswith("part")] == [f"part{n}.txt" for n in range(8)]
    assert len(branch.subjects()) == 8


def test_files_that_were_not_changed_are_not_stored_again(project: repository.Repository) -> None:
    """Git cannot tell from their times, which are the same as that of the copy's index."""
    project.commit({f"file{number}.txt": f"{number}\n" for number in range(200)})
    mission = conflicting.landed_mission(project, run="sleep 1.1; echo new > new.txt")
    engine = settings.FLEET_HOME.commits / Sortie.objects.get(mission=mission).ref / "git" / "objects"
    assert len([path for path in engine.rglob("*") if path.is_file() and len(path.parent.name) == 2]) < 10
