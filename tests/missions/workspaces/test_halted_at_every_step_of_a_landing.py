"""SIGSTOP past the lease at each step of a landing, and SIGCONT after a later attempt has landed: the old one loses."""

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
    keys = [f"{name}{number}" for number in range(MOST) for name in ("s", "other")]
    return fleet.launch({key: {"run": "true"} for key in keys}, workspace={"repository": str(project.path)})


def land_again(mission: Mission, key: str) -> None:
    """Run attempts of the sortie that only merge until one has the lane, as the fleet would."""
    for _ in range(5):
        step = landing.begin(mission, key)
        settlement = step.merge()
        assert step.settle(settlement)
        if settlement.state == "succeeded":
            return
        assert (settlement.state, settlement.waits_on) == ("waiting", "merge")
    raise AssertionError("the lane does not become free")


def test_an_attempt_that_is_halted_just_before_the_swap_loses(mission: Mission) -> None:
    current = landing.begin(mission, "s0")
    current.work("echo 0 > f0.txt")
    current.commit()
    outcome = settings.FLEET_HOME.root / "outcome"

    def land() -> None:
        settlement = current.merge(Change.objects.get(sortie_id=current.claim.id))
        outcome.write_text(f"{settlement.state} {current.settle(settlement)}")

    with killing.halted_before(land, command="update-ref", times=2):  # the first one writes the ref of the lane
        assert Change.objects.get(sortie_id=current.claim.id).state == "landing"
        land_again(mission, "s0")
        assert landing.land(mission, "other0", "echo 0 > o0.txt") == "succeeded"
        tip = repository.branch(mission).tip
    branch = repository.branch(mission)
    assert branch.tip == tip
    assert branch.subjects() == ["s0: A test", "other0: A test"]
    assert not outcome.exists() or outcome.read_text().endswith(" False")


@pytest.mark.drill
def test_a_halted_attempt_moves_nothing_when_it_continues(mission: Mission) -> None:
    def commit(number: int) -> ManualAttempt:
        step = landing.begin(mission, f"s{number}")
        step.work(f"echo {number} > f{number}.txt")
        step.commit()
        return step

    current = commit(0)

    def land() -> None:
        settlement = current.merge(Change.objects.get(sortie_id=current.claim.id))
        assert Change.objects.filter(sortie_id=current.claim.id).exists()  # a step before the settlement
        current.settle(settlement)

    expected = ["a.txt"]
    number = 0
    for step in killing.halted_at_each_step(land, folder=settings.FLEET_HOME.repositories, most=MOST):
        number = step - 1
        assert set(repository.branch(mission).files()) - {f"f{number}.txt"} == set(expected)
        if Sortie.objects.get(id=current.claim.id).state == "running":
            land_again(mission, f"s{number}")
        assert landing.land(mission, f"other{number}", f"echo {number} > o{number}.txt") == "succeeded"
        expected += [f"f{number}.txt", f"o{number}.txt"]
        tip = repository.branch(mission).tip
        current = commit(number + 1)
        assert repository.branch(mission).tip == tip
    branch = repository.branch(mission)
    expected.append(f"f{current.claim.key[1:]}.txt")
    assert branch.files() == sorted(expected)
    assert len(branch.subjects()) == len(expected) - 1
    assert number > 15
    changes = Change.objects.filter(sortie__mission=mission).values_list("state", flat=True)
    assert set(changes) == {"landed"}
