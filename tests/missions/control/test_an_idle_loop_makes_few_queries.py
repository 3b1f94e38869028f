"""Without a live mission, a beat of the control loop leaves out the duties of missions."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from fleet.celery import app
from missions import operations
from missions.control.loop import ControlLoop
from missions.hints import HintPublisher
from missions.models import Sortie
from tests.support import fleet

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def queries_about_sorties(control: ControlLoop) -> int:
    with CaptureQueriesContext(connection) as queries:
        control.beat()
    return sum("missions_sortie" in query["sql"] for query in queries)


def test_the_loop_queries_sorties_only_while_a_mission_is_live() -> None:
    control = ControlLoop(hint_publisher=HintPublisher(app))
    control.beat()  # the first beat also evaluates alerts
    assert queries_about_sorties(control) == 0
    mission = fleet.launch({"one": {}})
    assert queries_about_sorties(control) > 0
    operations.cancel(mission=mission.id)
    control.beat()
    assert Sortie.objects.get().state == "cancelled"
    assert queries_about_sorties(control) == 0


def test_a_paused_mission_is_live() -> None:
    control = ControlLoop(hint_publisher=HintPublisher(app))
    operations.pause(mission=fleet.launch({"one": {}}).id)
    control.beat()
    assert queries_about_sorties(control) > 0
