"""Missions that exist only in checkpoints are brought back if they were live, and not if they were being cancelled."""

from __future__ import annotations

import pytest

from checkpoints import operations
from checkpoints.queries import lookup
from missions import operations as missions
from missions.models import Mission
from tests.support import fleet
from tests.support.console import manage

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def test_a_mission_that_was_cancelled_after_its_newest_checkpoint_stays_cancelled() -> None:
    cancelled, live = fleet.launch({"a": {}}), fleet.launch({"a": {}})
    operations.capture(missions=[live.id])
    missions.cancel(mission=cancelled.id)
    fleet.beat()
    assert fleet.state(cancelled.id) == "cancelled"
    Mission.objects.all().delete()
    assert lookup.missions_without_rows() == sorted([cancelled.id, live.id])
    result = manage("fleet_resume")
    assert f"{live.ref} was restored" in result.err
    assert cancelled.ref not in result.err
    assert not Mission.objects.filter(id=cancelled.id).exists()
