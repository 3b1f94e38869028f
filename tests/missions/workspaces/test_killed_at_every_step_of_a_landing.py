"""Kill -9 at each step of a landing: the next attempt lands the work exactly once, and the lane is free again."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.conf import settings

from missions.models import Change, Mission, Sortie
from tests.support import fleet, repository
from tests.support.processes import killing
from tests.support.work import landing
from tests.support.work.landing import ManualAttempt

pytestmark = pytest.mark.django_db(transaction=True)

MOST = 120  # steps of a landing


@pytest.fixture
def mission(tmp_path: Path) -> Mission:
    project = repository.create(tmp_path / "project", {"a.txt": "a\n"})
    return fleet.launch(
        {f"s{number}": {"run": "true"} for number in range(MOST)}, workspace={"repository": str(project.path)}
    )


def commit_of(mission: Mission, number: int) -> ManualAttempt:
    """An attempt of the sortie that has committed a file and is about to merge it."""
    step = landing.begin(mission, f"s{number}")
    step.work(f"echo {number} > f{number}.txt")
    step.commit()
    return step


def test_the_next_attempt_lands_the_change_exactly_once(mission: Mission) -> None:
    current = commit_of(mission, 0)

    def land() -> None:
        settlement = current.merge(Change.objects.get(sortie_id=current.claim.id))
        assert Change.objects.filter(
            sortie_id=current.claim.id, state="landing"
        ).exists()  # a step before the settlement
        assert current.settle(settlement)

    moved_before_the_kill = 0
    number = 0
    for step in killing.at_each_step(land, folder=settings.FLEET_HOME.repositories, most=MOST):
        number = step - 1
        branch = repository.branch(mission)
        sortie = Sortie.objects.get(id=current.claim.id)
        if sortie.state == "running":
            moved_before_the_kill += f"f{number}.txt" in branch.files()
            next_attempt = landing.begin(mission, f"s{number}")
            assert next_attempt.workspace.only_merges
            assert next_attempt.settle(next_attempt.merge())
        sortie.refresh_from_db()
        assert sortie.state == "succeeded"
        assert branch.files() == sorted(["a.txt", *(f"f{n}.txt" for n in range(number + 1))])
        assert len(branch.subjects()) == number + 1
        change = Change.objects.get(sortie=sortie)
        assert (change.state, change.landed) == ("landed", branch.tip)
        current = commit_of(mission, number + 1)
    assert number > 15
    assert moved_before_the_kill, "no kill was between the move of the branch and the settlement"
    assert Sortie.objects.get(id=current.claim.id).state == "succeeded"
