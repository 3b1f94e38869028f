"""A step of the database's clock, or a restart of the control loop, makes no lease or heartbeat expire immediately."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection

from agents import operations as agents
from agents.models import Agent
from fleet import ids
from fleet.celery import app
from fleet.postgres import clock
from missions.control.loop import ControlLoop
from missions.hints import HintPublisher
from missions.models import Sortie
from tests.support import fleet
from tests.support.postgres.tampering import as_superuser
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


@pytest.fixture
def step_clock() -> Iterator[Any]:
    """Sets the clock of this connection: a schema before pg_catalog in its search path replaces the functions."""
    with as_superuser(), connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA stepped")
        cursor.execute("CREATE TABLE stepped.by (seconds float8)")
        cursor.execute("INSERT INTO stepped.by VALUES (0)")
        cursor.execute(
            "CREATE FUNCTION stepped.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS"
            " 'SELECT pg_catalog.clock_timestamp() + seconds * interval ''1 second'' FROM stepped.by'"
        )
        cursor.execute("GRANT USAGE ON SCHEMA stepped TO PUBLIC; GRANT ALL ON stepped.by TO PUBLIC")
        # It compares the time of a seal with the clock.
        cursor.execute("ALTER FUNCTION fleet_audit.accept_seal() SET search_path = stepped, pg_catalog, pg_temp")
    with connection.cursor() as cursor:
        cursor.execute("SET search_path = stepped, pg_catalog, public")

        def step(seconds: float) -> None:
            with connection.cursor() as cursor:
                cursor.execute("UPDATE stepped.by SET seconds = seconds + %s", [seconds])

        yield step
        cursor.execute("RESET search_path")
    with as_superuser(), connection.cursor() as cursor:
        cursor.execute("ALTER FUNCTION fleet_audit.accept_seal() SET search_path = pg_catalog, pg_temp")
        cursor.execute("DROP SCHEMA stepped CASCADE")


def beat_until(control: ControlLoop, condition: Callable[[], bool]) -> None:
    """Run the control loop until the condition holds."""

    def after_a_beat() -> bool:
        control.beat()
        return condition()

    until(after_a_beat)


def test_a_clock_is_trusted_after_it_was_steady_for_a_whole_lease(step_clock: Any) -> None:
    pace = clock.StepDetector(window_s=0.6, tolerance_s=0.25)
    assert not pace.is_steady(), "the clock may have been set just before"
    until(pace.is_steady)
    for seconds in (600, -600, 2):
        step_clock(seconds)
        assert not pace.is_steady()
        until(pace.is_steady)
    step_clock(0.1)
    assert pace.is_steady(), "a small step is within the margin of a lease"


def test_a_step_is_detected_even_after_a_long_pause(step_clock: Any) -> None:
    pace = clock.StepDetector(window_s=0.2, tolerance_s=0.25)
    until(pace.is_steady)
    time.sleep(0.5)
    step_clock(600)
    assert not pace.is_steady()


def test_a_clock_set_forward_expires_no_lease(step_clock: Any, settings: Any) -> None:
    settings.FLEET_LEASE_S, settings.FLEET_RENEW_S, settings.FLEET_GRACE_S = 4.0, 0.2, 0.5
    settings.FLEET_HEARTBEAT_S = 0.2
    engine = fleet.engine()
    mission = fleet.launch({"one": {"with": {"hold": True}}})
    control = ControlLoop(hint_publisher=HintPublisher(app))
    try:
        engine._start_another_slot()
        until(lambda: fleet.states(mission.id) == {"one": "running"})
        start = time.monotonic()
        beat_until(control, lambda: time.monotonic() - start > 5)
        assert control._clock_is_steady
        step_clock(600)
        control.beat()
        assert fleet.states(mission.id) == {"one": "running"}
        assert Sortie.objects.get(mission=mission).attempt == 1
        assert Agent.objects.get(id=engine.agent).state != "lost"
    finally:
        step_clock(-600)
        engine.stop(within_s=0)


def test_a_new_control_loop_gives_agents_a_whole_lease_to_renew(settings: Any) -> None:
    settings.FLEET_LEASE_S = 1.0
    agent = ids.new()
    agents.register(agent=agent, agent_type="backend", node="test", pid=1, start_time=0.0)
    mission = fleet.launch({"one": {}})
    control = ControlLoop(hint_publisher=HintPublisher(app))
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE missions_sortie SET state = 'running', attempt = 1, agent_id = %s, lease_until = now() - interval '1 h'"
            " WHERE mission_id = %s",
            [agent, mission.id],
        )
        cursor.execute(
            "INSERT INTO missions_attempt (sortie_id, number, state) SELECT id, 1, 'running' FROM missions_sortie"
            " WHERE mission_id = %s",
            [mission.id],
        )
    control.beat()
    assert fleet.states(mission.id) == {"one": "running"}
    beat_until(control, lambda: fleet.states(mission.id) != {"one": "running"})
    assert fleet.states(mission.id) == {"one": "queued"}


def test_a_clock_set_back_does_not_keep_sorties_of_lost_agents_for_long(step_clock: Any, settings: Any) -> None:
    settings.FLEET_LEASE_S = 1.0
    step_clock(3_600)
    mission = fleet.launch({"one": {}})
    control = ControlLoop(hint_publisher=HintPublisher(app))
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE missions_sortie SET state = 'running', attempt = 1, lease_until = clock_timestamp()"
            " WHERE mission_id = %s",
            [mission.id],
        )
        cursor.execute(
            "INSERT INTO missions_attempt (sortie_id, number, state) SELECT id, 1, 'running' FROM missions_sortie"
            " WHERE mission_id = %s",
            [mission.id],
        )
    control.beat()
    step_clock(-3_600)
    control.beat()
    assert fleet.states(mission.id) == {"one": "running"}
    beat_until(control, lambda: fleet.states(mission.id) != {"one": "running"})
    assert fleet.states(mission.id) == {"one": "queued"}
