"""The random missions of tests/missions/engine/test_random_missions.py, ten times as many and longer."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.missions.engine.test_random_missions import Missions

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def test_rows_and_events_agree_in_four_hundred_random_missions() -> None:
    run_state_machine_as_test(
        Missions,
        settings=settings(
            max_examples=400, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
