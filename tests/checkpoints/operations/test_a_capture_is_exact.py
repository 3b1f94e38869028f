"""A capture contains the whole state of a mission, whether it is read in full or as an increment."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from django.conf import settings
from django.core.files.storage import storages

from checkpoints import operations
from fleet import errors
from missions import operations as missions
from missions.engine.process.runtime import Engine
from missions.models import Mission
from missions.states import MissionState
from tests.support import fleet
from tests.support.checkpoints import DIAMOND, digest, manifest, sortie

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def test_it_contains_results_exactly(engine: Engine) -> None:
    mission = fleet.launch(DIAMOND)
    fleet.run_to_end(engine, mission)
    state, kept_data = sortie(operations.capture(missions=[mission.id]), "top")
    assert state["result"] == {"big": 2**60 + 1, "text": "ü\u2028"}
    assert (state["state"], state["needs"], kept_data["accepted"]) == ("succeeded", [], 1)


def test_a_sortie_that_could_run_is_due_whether_or_not_it_was_queued() -> None:
    mission = fleet.launch({"one": {}})
    queued_digest = digest(mission)
    missions.pause(mission=mission.id)
    assert digest(mission) == queued_digest


def test_equal_missions_have_equal_digests() -> None:
    first, second = fleet.launch(DIAMOND), fleet.launch(DIAMOND)
    assert digest(first) == digest(second)


def test_an_increment_equals_a_full_capture_and_writes_only_what_changed(engine: Engine) -> None:
    mission = fleet.launch({f"s{number}": {} for number in range(100)})
    full = operations.capture(missions=[mission.id])
    missions.cancel_sortie(sortie=mission.sorties.get(key="s7").id, reason="not needed")
    increment = operations.capture(missions=[mission.id])
    (entry,) = manifest(increment).missions
    assert entry.digest == digest(mission)
    before = {part.blob for part in manifest(full).parts}
    assert len([part for part in entry.buckets.values() if part.blob not in before]) == 1
    assert increment.parent == full.id


def test_a_changed_priority_is_found_by_the_next_increment() -> None:
    mission = fleet.launch({"one": {}, "two": {}})
    operations.capture(missions=[mission.id])
    missions.prioritise(mission=mission.id, priority=7)
    (entry,) = manifest(operations.capture(missions=[mission.id])).missions
    assert entry.digest == digest(mission)


def test_sorties_added_at_run_time_are_found_by_the_next_increment(engine: Engine) -> None:
    extra = {"name": "extra", "agent": "backend", "driver": "scripted", "before": ["later"]}
    mission = fleet.launch({"adder": {"with": {"add": [extra]}}, "later": {"needs": ["adder"]}})
    operations.capture(missions=[mission.id])
    fleet.run_to_end(engine, mission)
    checkpoint = operations.capture(missions=[mission.id])
    (entry,) = manifest(checkpoint).missions
    assert entry.digest == digest(mission)
    assert sortie(checkpoint, "extra")[0]["added_by"] == "adder"
    assert sortie(checkpoint, "later")[0]["needs"] == [["adder", "adder"], ["extra", "extra"]]


def test_several_missions_are_captured_in_one_moment() -> None:
    first, second = fleet.launch({"one": {}}), fleet.launch({"one": {}})
    checkpoint = operations.capture(missions=[first.id, second.id])
    assert [entry.id for entry in manifest(checkpoint).missions] == [first.ref, second.ref]


def test_a_mission_that_is_being_cancelled_is_refused() -> None:
    mission = fleet.launch({"one": {}})
    Mission.objects.filter(id=mission.id).update(state=MissionState.CANCELLING)
    with pytest.raises(errors.Conflict, match="is being cancelled"):
        operations.capture(missions=[mission.id])


@pytest.mark.skipif(not shutil.which("zstd"), reason="zstd is not installed")
def test_it_can_be_read_with_zstd() -> None:
    mission = fleet.launch({"one": {}})
    (entry,) = manifest(operations.capture(missions=[mission.id])).missions
    path = storages["checkpoints"].path(f"blobs/{entry.mission.blob}.zst")
    output = subprocess.run(["zstd", "-dc", path], capture_output=True, check=True).stdout
    assert json.loads(output.splitlines()[0])["name"] == mission.name


def test_only_the_fleets_user_can_read_it() -> None:
    operations.capture(missions=[fleet.launch({"one": {}}).id])
    assert settings.FLEET_CHECKPOINTS.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in settings.FLEET_CHECKPOINTS.glob("*/*")} == {0o600}
