"""What is told of a sortie that runs is of its running attempt, also where that ends while it is read."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fleet.postgres import clock
from missions.models import Attempt, Sortie
from missions.queries import reads
from tests.support import fleet

pytestmark = pytest.mark.django_db


def test_the_error_of_an_attempt_that_ended_meanwhile_is_not_told_of_one_that_runs() -> None:
    mission = fleet.launch({"one": {}})
    Sortie.objects.update(state="running", attempt=1, lease_until=clock.now() + timedelta(minutes=1))
    Attempt.objects.create(sortie=Sortie.objects.get(), number=1, state=Attempt.State.FAILED, error="It broke.")
    (item,) = reads.items(mission)
    assert (item["state"], item["error"]) == ("running", None)
    Sortie.objects.update(state="failed", lease_until=None, finished_at=clock.now())
    (item,) = reads.items(mission)
    assert (item["state"], item["error"]) == ("failed", "It broke.")
