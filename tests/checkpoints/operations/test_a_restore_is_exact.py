"""A restore puts back exactly what was captured, whatever has happened since, and can be undone."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from checkpoints import operations
from checkpoints.document import Bucket, Part, bucket_of
from checkpoints.files import storage
from fleet import errors
from fleet.events.models import Event
from missions import operations as missions
from missions.engine.process.runtime import Engine
from missions.models import Attempt, Mission, Sortie
from missions.operations import external_agents
from missions.queries import counters, mission_results, sortie_json
from tests.support import fleet
from tests.support.checkpoints import DIAMOND, digest, manifest, saved_digest
from tests.support.waiting import until
from tests.support.work.restoring import restore

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def test_a_mission_that_ran_to_its_end_is_put_back_to_its_start_and_runs_again(engine: Engine) -> None:
    mission = fleet.launch(DIAMOND)
    start = operations.capture(missions=[mission.id])
    fleet.run_to_end(engine, mission)
    result = restore(start)
    assert (result.mission.state, digest(mission)) == ("paused", saved_digest(start))
    assert fleet.states(mission.id) == {"top": "ready", "left": "pending", "right": "pending", "bottom": "pending"}
    missions.resume(mission=mission.id, can_execute=True)
    assert fleet.run_to_end(engine, mission) == "succeeded"
    assert Sortie.objects.get(mission=mission, key="top").attempt == 2


def test_a_sortie_that_runs_again_shows_neither_duration_nor_error_of_the_attempt_that_was_undone(
    engine: Engine,
) -> None:
    mission = fleet.launch({"a": {"allow_failure": True, "with": {"fail": "No disk"}}})
    start = operations.capture(missions=[mission.id])
    fleet.run_to_end(engine, mission)
    assert "No disk" in sortie_json.of_sortie(Sortie.objects.get(mission=mission))["error"]
    restore(start)
    row = sortie_json.of_sortie(Sortie.objects.get(mission=mission))
    assert (row["state"], row["error"], row["elapsed_s"]) == ("ready", None, None)


def test_the_state_that_was_replaced_can_be_put_back_too(engine: Engine) -> None:
    mission = fleet.launch(DIAMOND)
    start = operations.capture(missions=[mission.id])
    fleet.run_to_end(engine, mission)
    end = digest(mission)
    safety = restore(start).safety
    assert safety is not None
    assert restore(safety).mission.state == "succeeded"
    assert digest(mission) == end


def test_going_back_forward_and_back_again_gives_dependents_the_right_results(engine: Engine) -> None:
    mission = fleet.launch(
        {"a": {"with": {"result": 1}}, "b": {"needs": ["a"], "with": {"result": "{{ needs.a.result }}"}}}
    )
    start = operations.capture(missions=[mission.id])
    fleet.run_to_end(engine, mission)
    first = operations.capture(missions=[mission.id])
    restore(start)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE missions_brief b SET spec = jsonb_set(spec, '{arguments,result}', '2') FROM missions_sortie s"
            " WHERE s.id = b.sortie_id AND s.key = 'a' AND s.mission_id = %s",
            [mission.id],
        )
    missions.resume(mission=mission.id, can_execute=True)
    fleet.run_to_end(engine, mission)
    second = operations.capture(missions=[mission.id])
    assert mission_results.last_result(mission) == 2
    restore(first)
    assert mission_results.last_result(mission) == 1
    assert Sortie.objects.get(mission=mission, key="a").accepted == 1
    restore(second)
    assert mission_results.last_result(mission) == 2
    restore(first)
    assert mission_results.last_result(mission) == 1


def test_the_largest_result_comes_back() -> None:
    largest = {"text": "€" * (settings.FLEET_RESULT_BYTES // 3 - 10)}  # three bytes each
    mission = fleet.launch({"large": {"with": {}}})
    (lease,) = external_agents.claim(agent=external_agents.register(agent_type="backend").id)
    external_agents.complete(token=lease.token, result=largest)
    captured = operations.capture(missions=[mission.id])
    Mission.objects.all().delete()
    restore(captured)
    assert mission_results.last_result(Mission.objects.get(id=mission.id)) == largest


def test_a_running_sortie_is_fenced_and_waits_for_the_end_of_its_lease(engine: Engine) -> None:
    mission = fleet.launch({"slow": {"with": {"seconds": 60}}})
    start = operations.capture(missions=[mission.id])
    threading.Thread(target=engine.run_slot, daemon=True).start()
    until(lambda: fleet.states(mission.id) == {"slow": "running"})
    lease = Sortie.objects.get(mission=mission).lease_until
    restore(start)
    row = Sortie.objects.get(mission=mission)
    assert (row.state, row.wake_at, row.waits_for) == ("waiting", lease, "its earlier attempt to end")
    assert Attempt.objects.get(sortie=row).state == "lost"
    assert digest(mission) == saved_digest(start)


def test_sorties_that_were_added_since_go_away_and_come_back_with_new_ids(engine: Engine) -> None:
    added = {"name": "extra", "agent": "backend", "driver": "scripted", "before": ["later"], "with": {"result": "x"}}
    mission = fleet.launch({"adder": {"with": {"add": [added]}}, "later": {"needs": ["adder"]}})
    start = operations.capture(missions=[mission.id])
    fleet.run_to_end(engine, mission)
    end = operations.capture(missions=[mission.id])
    old = Sortie.objects.get(mission=mission, key="extra").id
    restore(start)
    assert set(fleet.states(mission.id)) == {"adder", "later"}
    restore(end)
    extra = Sortie.objects.get(mission=mission, key="extra")
    assert (extra.state, extra.attempt, extra.attempts.get().result) == ("succeeded", 1, "x")
    assert extra.id != old
    assert digest(mission) == saved_digest(end)


def test_a_sortie_that_is_created_again_waits_for_processes_of_the_removed_one(engine: Engine) -> None:
    added = {"name": "extra", "agent": "frontend", "driver": "scripted"}
    mission = fleet.launch({"adder": {"with": {"add": [added]}}})
    start = operations.capture(missions=[mission.id])
    engine.run_slot()
    assert fleet.states(mission.id) == {"adder": "succeeded", "extra": "queued"}
    with_extra = operations.capture(missions=[mission.id])
    restore(start)
    restore(with_extra)
    extra = Sortie.objects.get(mission=mission, key="extra")
    assert extra.state == "waiting"
    assert extra.wake_at is not None
    assert extra.wake_at > timezone.now() + timedelta(seconds=settings.FLEET_LEASE_S - 5)


def test_attempt_numbers_events_and_totals_are_never_rewound(engine: Engine) -> None:
    mission = fleet.launch({"one": {}})
    start = operations.capture(missions=[mission.id])
    fleet.run_to_end(engine, mission)
    counters.fold(wait=True)
    totals, events = counters.totals(), Event.objects.filter(scope=mission.id).count()
    safety = restore(start).safety
    assert safety is not None
    restore(safety)
    counters.fold(wait=True)
    assert counters.totals() == totals
    assert Event.objects.filter(scope=mission.id).count() > events
    assert Sortie.objects.get(mission=mission).attempt == 1


def test_a_flipped_bit_is_found_before_anything_changes(engine: Engine) -> None:
    mission = fleet.launch(DIAMOND)
    start = operations.capture(missions=[mission.id])
    fleet.run_to_end(engine, mission)
    end = digest(mission)
    (entry,) = manifest(start).missions
    path = settings.FLEET_CHECKPOINTS / "blobs" / f"{entry.mission.blob}.zst"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(storage.CheckpointDamaged):
        restore(start)
    assert digest(mission) == end
    path.unlink()


def test_a_restore_whose_rows_would_differ_is_rolled_back(engine: Engine) -> None:
    mission = fleet.launch({"one": {}, "two": {"needs": ["one"]}})
    checkpoint = operations.capture(missions=[mission.id])
    (entry,) = manifest(checkpoint).missions
    part = entry.buckets[bucket_of("two")]
    bucket = Bucket.parse(storage.read(part))
    bucket.state["two"] = bucket.state["two"].replace('["one", "one"]', '["nobody", "one"]')
    data = bucket.text().encode()
    forged = Part(hashlib.sha256(data).hexdigest(), len(data), bucket.digest())
    forged_entry = dataclasses.replace(entry, buckets={**entry.buckets, bucket_of("two"): forged})
    storage.add_checkpoint(dataclasses.replace(manifest(checkpoint), missions=(forged_entry,)), {forged.blob: data})
    fleet.run_to_end(engine, mission)
    end = digest(mission)
    with pytest.raises(errors.Conflict, match="The restored rows differ"):
        restore(checkpoint)
    assert digest(mission) == end


def test_the_owner_needs_plan_execute_to_restore_code() -> None:
    mission = fleet.launch({"one": {"run": "true"}})
    checkpoint = operations.capture(missions=[mission.id])
    with pytest.raises(errors.Forbidden):
        operations.restore(checkpoint=checkpoint, can_execute=False)


def test_a_mission_that_is_being_cancelled_is_not_restored() -> None:
    mission = fleet.launch({"one": {}})
    checkpoint = operations.capture(missions=[mission.id])
    Mission.objects.filter(id=mission.id).update(state="cancelling")
    with pytest.raises(errors.Conflict, match="being cancelled"):
        restore(checkpoint)
