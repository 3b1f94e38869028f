"""Priorities of missions, defaults, sorties and added sorties."""

from __future__ import annotations

import pytest

from missions.models import Mission, Sortie
from tests.support import fleet
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def priorities(mission: Mission) -> dict[str, int]:
    return dict(Sortie.objects.filter(mission=mission).values_list("key", "priority"))


def test_a_sortie_has_its_own_priority_or_that_of_its_mission() -> None:
    mission = fleet.launch({"own": {"priority": 3}, "none": {}}, priority=5)
    assert priorities(mission) == {"own": 3, "none": 5}


def test_added_sorties_have_the_priority_of_their_parent() -> None:
    additions = [
        {"name": "more", "agent": "frontend", "run": "x"},
        {"name": "own", "agent": "frontend", "run": "x", "priority": 1},
    ]
    mission = fleet.launch({"first": {"priority": 9, "with": {"add": additions}}}, defaults={"priority": 2}, priority=5)
    engine = fleet.engine()
    until(lambda: (engine.run_slot(), fleet.states(mission.id)["first"] == "succeeded")[1])
    engine.stop(within_s=5)
    assert priorities(mission) == {"first": 9, "more": 9, "own": 1}
