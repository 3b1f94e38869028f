"""A running sortie is described by its running attempt, even if that ends during the read."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fleet.postgres import clock
from missions.models import Attempt, Sortie
from missions.queries import sortie_json
from tests.support import fleet

pytestmark = pytest.mark.django_db


def test_a_running_sortie_does_not_show_the_error_of_an_ended_attempt() -> None:
    mission = fleet.launch({"one": {}})
    Sortie.objects.update(state="running", attempt=1, lease_until=clock.now() + timedelta(minutes=1))
    Attempt.objects.create(sortie=Sortie.objects.get(), number=1, state=Attempt.State.FAILED, error="It broke.")
    (item,) = sortie_json.of_mission(mission)
    assert (item["state"], item["error"]) == ("running", None)
    Sortie.objects.update(state="failed", lease_until=None, finished_at=clock.now())
    (item,) = sortie_json.of_mission(mission)
    assert (item["state"], item["error"]) == ("failed", "It broke.")
