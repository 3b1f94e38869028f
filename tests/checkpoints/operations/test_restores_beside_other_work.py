"""Restores are exact despite concurrent restores and agents that settle and add sorties."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from django.db.models.functions import Now

from checkpoints import operations
from checkpoints.models import Checkpoint
from fleet import errors
from fleet.events.models import Event
from missions import operations as missions
from missions.attempt_tokens import StaleLease
from missions.engine.process.runtime import Engine
from missions.models import Attempt, Mission, Sortie
from missions.operations import external_agents
from tests.support import fleet
from tests.support.checkpoints import DIAMOND, digest, saved_digest
from tests.support.waiting import until

pytestmark = [pytest.mark.django_db(transaction=True, serialized_rollback=True), pytest.mark.timeout(300)]


def test_two_restores_at_once_leave_the_state_of_one_of_them(engine: Engine) -> None:
    mission = fleet.launch(DIAMOND)
    start = operations.capture(missions=[mission.id])
    fleet.run_to_end(engine, mission)
    end = operations.capture(missions=[mission.id])

    def restore(checkpoint: Checkpoint) -> str:
        try:
            for _ in range(3):
                operations.restore(checkpoint=checkpoint, can_execute=True)
            return "restored"
        except errors.Conflict as error:
            return str(error)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(restore, [start, end])) == ["restored", "restored"]
    assert digest(mission) in (saved_digest(start), saved_digest(end))
    assert Checkpoint.objects.filter(trigger="restore").count() == 6
    assert operations.verify(checkpoints=Checkpoint.objects.all()) == []


def test_the_capture_after_a_restore_contains_what_the_restore_changed(engine: Engine) -> None:
    mission = fleet.launch(DIAMOND)
    start = operations.capture(missions=[mission.id])
    fleet.run_to_end(engine, mission)
    ending = threading.Event()

    def commit() -> None:
        """Commit transactions that start after the restore's and end before it."""
        while not ending.is_set():
            Event.objects.create(kind="agent.idle")
        connection.close()

    thread = threading.Thread(target=commit)
    thread.start()
    try:
        operations.restore(checkpoint=start, can_execute=True)
    finally:
        ending.set()
        thread.join(10)
    after = operations.capture(missions=[mission.id])
    assert saved_digest(after) == digest(mission) == saved_digest(start)


def test_progress_that_is_reported_throughout_restores_changes_nothing_once_the_attempt_is_fenced() -> None:
    mission = fleet.launch({"slow": {}})
    start = operations.capture(missions=[mission.id])
    (lease,) = external_agents.claim(agent=external_agents.register(agent_type="backend").id)
    accepted, ending = 0, threading.Event()

    def report() -> str:
        nonlocal accepted
        try:
            while not ending.is_set():
                external_agents.progress(token=lease.token, fraction=0.5, output="working\n", resume={"step": accepted})
                accepted += 1
            return "still accepted"
        except StaleLease as error:
            return str(error)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as thread:
        refusal = thread.submit(report)
        try:
            until(lambda: accepted > 3)
            restored = operations.restore(checkpoint=start, can_execute=True)
            assert "lease" in refusal.result(timeout=30)
        finally:
            ending.set()
    assert digest(mission) == saved_digest(start)
    assert restored.safety is not None
    attempt = Attempt.objects.get()
    assert (attempt.state, Sortie.objects.get().attempt) == ("lost", 1)
    missions.resume(mission=mission.id, can_execute=True)
    Sortie.objects.update(wake_at=Now())
    fleet.beat()
    assert fleet.states(mission.id) == {"slow": "queued"}


def test_agents_settle_and_add_sorties_throughout_restores() -> None:
    added = [{"name": "more{}", "agent": "backend", "driver": "scripted"}]
    sorties = {}
    for number in range(30):
        extra = [{**item, "name": item["name"].format(number)} for item in added] if number % 3 == 0 else []
        sorties[f"s{number}"] = {
            "with": {"result": number, "add": extra},
            "needs": [f"s{number - 1}"] if number % 2 else [],
        }
    mission = fleet.launch(sorties)
    start = operations.capture(missions=[mission.id])
    checkpoints = [start]
    engine = fleet.engine(slots=4)
    ending = threading.Event()

    def run_engines() -> None:
        while not ending.is_set():
            engine.run_slot()
            fleet.beat()
        connection.close()

    thread = threading.Thread(target=run_engines)
    thread.start()
    try:
        for number in range(6):
            Sortie.objects.filter(mission=mission, state="waiting").update(wake_at=Now())
            checkpoint = checkpoints[number * 7 % len(checkpoints)]
            result = operations.restore(
                checkpoint=checkpoint, can_execute=True
            )  # verifies the result before it commits
            assert result.safety is not None
            checkpoints.append(result.safety)
            if result.mission.state == "paused":
                missions.resume(mission=mission.id, can_execute=True)
            checkpoints.append(operations.capture(missions=[mission.id]))
        operations.restore(checkpoint=start, can_execute=True)
        missions.resume(mission=mission.id, can_execute=True)

        def has_ended() -> bool:
            Sortie.objects.filter(mission=mission, state="waiting").update(wake_at=Now())
            return Mission.objects.get(id=mission.id).finished_at is not None

        until(has_ended, within_s=120)
    finally:
        ending.set()
        thread.join(30)
        engine.stop(within_s=5)
    assert fleet.state(mission.id) == "succeeded"
    rows = Sortie.objects.filter(mission=mission)
    assert rows.count() == 40
    for row in rows:
        attempt = Attempt.objects.get(sortie=row, number=row.accepted or row.attempt)
        assert attempt.state == "succeeded", row.key
        if row.key.startswith("s"):
            assert attempt.result == int(row.key[1:])
    assert operations.verify(checkpoints=Checkpoint.objects.all()) == []
