"""Concurrent engines run random missions under two control loops while orders arrive.

Unlike in test_random_missions.py, the order of steps is not controlled, so a failure may not be reproducible. The events
of the missions show what happened.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from django.db import OperationalError, connection
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from agents import operations as agents
from agents.models import Agent
from fleet import errors
from fleet.postgres import roles
from missions import operations
from missions.models import Mission, Sortie
from tests.missions.engine.test_random_missions import KEYS, ORDERS
from tests.support import fleet
from tests.support.waiting import until
from tests.support.work import ledger

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

SCRIPTS: list[dict[str, Any]] = [
    {}, {}, {}, {"seconds": 0.02}, {"fail": "no"}, {"fail_times": 1}, {"raise": "boom"}, {"result_nul": True},
    {"output": {"bytes": 200}},
]  # fmt: skip


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Any]:
    sorties: dict[str, Any] = {}
    for number in range(draw(st.integers(2, 30))):
        sortie: dict[str, Any] = {
            "with": draw(st.sampled_from(SCRIPTS)),
            "allow_failure": draw(st.booleans()),
            "retry": {"max_attempts": draw(st.integers(1, 3)), "backoff": "0.01s"},
        }
        if sorties:
            sortie["needs"] = draw(st.lists(st.sampled_from(list(sorties)), unique=True, max_size=4))
            if draw(st.integers(0, 4)) == 0:
                sortie["if"] = "always"
        if key := draw(st.sampled_from([None, None, None, *KEYS])):
            sortie["concurrency"] = {"key": key, "limit": KEYS[key]}
        sorties[f"s{number}"] = sortie
    return {"sorties": sorties, "on_failure": draw(st.sampled_from(["continue", "continue", "stop"]))}


@given(plan=plans(), orders=st.integers(0, 12), seed=st.integers(0, 1_000))
@settings(max_examples=12, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
def test_concurrent_engines_under_two_control_loops_keep_every_rule(
    plan: dict[str, Any], orders: int, seed: int
) -> None:
    chance = random.Random(seed)
    missions = [fleet.launch(**plan).id for _ in range(2)]
    engines = [fleet.engine(slots=2) for _ in range(2)]
    stops: list[threading.Thread] = []
    try:
        with repeat(fleet.beat), repeat(fleet.beat), repeat(lambda: [engine.run_slot() for engine in engines]):
            for _ in range(orders):
                time.sleep(chance.uniform(0, 0.03))
                if chance.random() < 0.15:
                    lost_engine = engines.pop(0)
                    agents.end(agents=[lost_engine.agent], state=Agent.State.LOST, reason="killed", reaped=True)
                    engines.append(fleet.engine(slots=2))
                    stops.append(
                        threading.Thread(target=lost_engine.stop, kwargs={"within_s": 0})
                    )  # abandons its sorties
                    stops[-1].start()
                else:
                    order(chance, missions)
            for mission in Mission.objects.filter(id__in=missions, state="paused"):
                operations.resume(mission=mission.id, can_execute=True)
            until(lambda: not Mission.objects.filter(id__in=missions, finished_at=None).exists())
        for mission_id in missions:
            ledger.check(mission_id, sequential=False)
    finally:
        for engine in engines:
            engine.stop(within_s=5)
        for thread in stops:
            thread.join()
        with roles.as_owner(), connection.cursor() as cursor:
            cursor.execute("TRUNCATE missions_mission, missions_concurrencykey, agents_agent, fleet_event CASCADE")


def order(chance: random.Random, missions: list[Any]) -> None:
    with suppress(errors.Conflict, OperationalError):  # two orders may deadlock; one of them fails
        match chance.choice(["pause", "resume", "resume", "cancel_sortie", "retry_sortie", "retry", "cancel"]):
            case "cancel_sortie" | "retry_sortie" as name:
                every = list(Sortie.objects.filter(mission__in=missions).values_list("id", flat=True))
                ORDERS[name](sortie=chance.choice(every))
            case name:
                ORDERS[name](mission=chance.choice(missions))


@contextmanager
def repeat(do: Callable[[], object]) -> Iterator[None]:
    """Call `do` repeatedly in a thread, as a process would that survives a failed round."""
    end = threading.Event()
    failures: list[Exception] = []

    def run() -> None:
        while not end.wait(0.01):
            try:
                do()
            except OperationalError:  # the two loops deadlocked
                connection.close()
            except Exception as error:
                failures.append(error)
                return
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()
    assert not failures, failures
