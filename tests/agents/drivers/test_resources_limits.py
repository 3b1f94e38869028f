"""Limits of an agent type apply to attempts that start after a change: real processes, judged by the engine."""

from __future__ import annotations

import re
import sys

import pytest

from agents.models import AgentType
from missions.engine.process.runtime import Engine
from missions.models import Attempt, Mission, Sortie
from tests.support import fleet

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

HOLD = [  # forever; in the second attempt for one second
    sys.executable, "-c",
    "import os, time; memory = b'x' * 200_000_000; time.sleep(1 if os.environ['FLEET_ATTEMPT'].endswith('/2') else 600)",
]  # fmt: skip
ONCE = {"max_attempts": 1}


def allow(**limits: int) -> None:
    AgentType.objects.filter(name="backend").update(**limits)


def last(mission: Mission) -> Attempt:
    return Attempt.objects.filter(sortie__mission=mission).order_by("-number")[0]


def test_exceeding_the_memory_limit_fails_a_try_and_the_next_try_uses_the_new_limit(engine: Engine) -> None:
    allow(memory_mb=100)
    mission = fleet.launch({"a": {"run": HOLD, "retry": {"max_attempts": 2, "backoff": "10ms"}}})
    assert engine.run_slot() == 1
    sortie = Sortie.objects.get(mission=mission)
    assert (sortie.state, sortie.tries) == ("waiting", 1)
    assert re.search(r"stopped: it used \d+ MB of memory; its limit is 100 MB", last(mission).error)
    assert "its limit is 100 MB" in sortie.waits_for
    allow(memory_mb=0)
    assert fleet.run_to_end(engine, mission) == "succeeded"
    assert last(mission).number == 2


def test_exceeding_the_disk_limit_is_a_failure(engine: Engine) -> None:
    allow(disk_mb=3)
    mission = fleet.launch({"a": {"run": "cd $FLEET_SCRATCH; head -c 9000000 /dev/zero > large", "retry": ONCE}})
    assert fleet.run_to_end(engine, mission) == "failed"
    assert "stopped: it wrote" in last(mission).error
    assert "3 MB" in last(mission).error


def test_the_limit_of_the_type_caps_the_timeout_of_the_plan(engine: Engine) -> None:
    allow(max_duration_s=1)
    mission = fleet.launch({"a": {"run": "sleep 600", "timeout": "50s", "retry": ONCE}})
    assert fleet.run_to_end(engine, mission) == "failed"
    assert "longer than 1 s, the longest that its agent type allows" in last(mission).error
