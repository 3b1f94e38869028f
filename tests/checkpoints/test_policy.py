"""Missions are captured by time, by progress and at certain events; a capture that fails stops nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings
from django.utils import timezone

from checkpoints import operations, policy
from checkpoints.files import storage
from checkpoints.models import Checkpoint
from checkpoints.operations import artifacts
from checkpoints.policy import EndedMissions, LastCapture, Policy
from fleet import errors
from fleet.events.models import Event
from missions import operations as missions
from missions.artifacts import collection
from missions.engine.process.runtime import Engine
from missions.models import Artifact, Mission
from missions.operations import cleaning
from tests.support import fleet

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


@contextmanager
def on_full_disk(folder: Path) -> Iterator[None]:
    """Checkpoints cannot be written: their folder is below a file."""
    (folder / "file").touch()
    location = str(folder / "file" / "checkpoints")
    storages = {
        **settings.STORAGES,
        "checkpoints": {**settings.STORAGES["checkpoints"], "OPTIONS": {"location": location}},
    }
    with override_settings(STORAGES=storages):
        yield


def triggers(mission: Mission) -> list[str]:
    return list(Checkpoint.objects.filter(missions=[mission.id]).order_by("id").values_list("trigger", flat=True))


@pytest.mark.parametrize(
    ("plan", "counts", "last", "trigger"),
    [
        ({"at": [50]}, (10, 5, 0), LastCapture(ended=4, failed=0, age_s=1), "progress"),
        ({"at": [50]}, (10, 6, 0), LastCapture(ended=5, failed=0, age_s=1), None),
        ({"at": [50]}, (10, 10, 0), LastCapture(ended=0, failed=0, age_s=1), None),
        ({"at": [], "sorties": 3}, (10, 3, 0), LastCapture(ended=2, failed=0, age_s=1), "progress"),
        ({"at": [], "sorties": 3}, (10, 5, 0), LastCapture(ended=3, failed=0, age_s=1), None),
        ({"at": [], "every_s": 60}, (10, 5, 0), LastCapture(ended=5, failed=0, age_s=61), "interval"),
        ({"at": [], "every_s": 60}, (10, 5, 0), LastCapture(ended=5, failed=0, age_s=59), None),
        ({"at": [], "every_s": 0}, (10, 5, 0), LastCapture(ended=5, failed=0, age_s=1e9), None),
        ({"at": [], "on": ["failure"]}, (10, 5, 1), LastCapture(ended=4, failed=0, age_s=1), "failure"),
        ({"at": [], "on": []}, (10, 5, 1), LastCapture(ended=4, failed=0, age_s=1), None),
    ],
)
def test_a_policy_decides_by_counts_and_age(
    plan: dict[str, Any], counts: tuple[int, int, int], last: LastCapture, trigger: str | None
) -> None:
    total, ended, failed = counts
    assert Policy.of(plan).due(total=total, ended=ended, failed=failed, last=last) == trigger


def test_a_mission_is_captured_once_per_step_of_progress() -> None:
    mission = fleet.launch({f"s{number}": {} for number in range(4)}, checkpoints={"at": [50], "on": []})
    assert policy.capture_due() == []
    for number in range(3):
        missions.cancel_sortie(sortie=mission.sorties.get(key=f"s{number}").id)
        policy.capture_due()
        policy.capture_due()
    assert triggers(mission) == ["progress"]


def test_a_failure_is_captured(engine: Engine) -> None:
    mission = fleet.launch({"bad": {"with": {"fail": "no"}}, "slow": {"agent": "frontend"}})
    engine.run_slot()
    policy.capture_due()
    policy.capture_due()
    assert triggers(mission) == ["failure"]


def test_an_unchanged_mission_is_not_captured_again() -> None:
    mission = fleet.launch({"one": {}}, checkpoints={"every": "1ms"})
    policy.capture_due()
    policy.capture_due()
    assert triggers(mission) == ["interval"]


def test_a_mission_is_captured_before_it_is_cancelled() -> None:
    mission = fleet.launch({"one": {}})
    missions.cancel(mission=mission.id)
    checkpoint = Checkpoint.objects.get()
    assert checkpoint.trigger == "cancel"
    operations.restore(checkpoint=checkpoint, can_execute=True)
    assert fleet.states(mission.id) == {"one": "ready"}


def test_a_refused_cancel_captures_nothing() -> None:
    mission = fleet.launch({"one": {}})
    missions.cancel(mission=mission.id)
    with pytest.raises(errors.Conflict, match="has ended"):
        missions.cancel(mission=mission.id)
    assert triggers(mission) == ["cancel"]


def test_running_missions_are_captured_at_a_shutdown() -> None:
    mission = fleet.launch({"one": {}})
    policy.capture_at_shutdown()
    assert triggers(mission) == ["shutdown"]


def test_a_planned_mission_is_captured_at_an_interval() -> None:
    launched = fleet.launch({"one": {}}, checkpoints={"every": "1ms"})
    planned = operations.fork(checkpoint=operations.capture(missions=[launched.id]), can_execute=True).mission
    policy.capture_due()
    policy.capture_due()
    assert planned.state == "planned"
    assert triggers(planned) == ["interval"]


def test_a_mission_that_ends_after_a_capture_is_captured_once_more(engine: Engine) -> None:
    ended = EndedMissions()
    mission = fleet.launch({"one": {}})
    operations.capture(missions=[mission.id])
    assert ended.capture() == []
    fleet.run_to_end(engine, mission)
    assert [storage.read_manifest(row.ref).missions[0].state for row in ended.capture()] == ["succeeded"]
    assert ended.capture() == []
    assert triggers(mission) == ["request", "end"]


def test_a_mission_that_ended_while_the_control_loop_was_down_is_captured(engine: Engine) -> None:
    mission = fleet.launch({"one": {}})
    operations.capture(missions=[mission.id])
    fleet.run_to_end(engine, mission)
    EndedMissions().capture()
    EndedMissions().capture()
    assert triggers(mission) == ["request", "end"]


def test_the_end_of_a_mission_that_was_never_captured_is_not_captured(engine: Engine) -> None:
    mission, ended = fleet.launch({"one": {}}), EndedMissions()
    ended.capture()
    fleet.run_to_end(engine, mission)
    assert ended.capture() == []


def test_an_end_that_could_not_be_captured_is_captured_later(engine: Engine, tmp_path: Path) -> None:
    mission, ended = fleet.launch({"one": {}}), EndedMissions()
    operations.capture(missions=[mission.id])
    ended.capture()
    fleet.run_to_end(engine, mission)
    with on_full_disk(tmp_path):
        assert ended.capture() == []
    assert [checkpoint.trigger for checkpoint in ended.capture()] == ["end"]


def test_the_end_of_a_mission_is_not_captured_if_its_plan_says_so(engine: Engine) -> None:
    mission = fleet.launch({"one": {}}, checkpoints={"on": []})
    operations.capture(missions=[mission.id])
    fleet.run_to_end(engine, mission)
    assert EndedMissions().capture() == []


def test_missions_are_captured_before_cleanup_and_their_artifacts_stay(engine: Engine, tmp_path: Path) -> None:
    mission = fleet.launch({"one": {"run": "echo made > made.txt", "outputs": ["made.txt"]}}, folder=str(tmp_path))
    fleet.run_to_end(engine, mission)
    digest = Artifact.objects.get().digest
    cleaning.remove(missions=[mission.id])
    checkpoint = Checkpoint.objects.get(trigger="cleanup")
    assert collection.has(digest)
    operations.restore(checkpoint=checkpoint, can_execute=True)
    assert Artifact.objects.get().digest == digest


def test_artifacts_of_a_removed_mission_go_with_its_last_checkpoint(engine: Engine, tmp_path: Path) -> None:
    mission = fleet.launch({"one": {"run": "echo made > made.txt", "outputs": ["made.txt"]}}, folder=str(tmp_path))
    fleet.run_to_end(engine, mission)
    digest = Artifact.objects.get().digest
    cleaning.remove(missions=[mission.id])
    operations.prune(now=timezone.now() + timedelta(days=settings.FLEET_CHECKPOINT_DAYS + 1), dry_run=False)
    assert not Checkpoint.objects.exists()
    assert not collection.has(digest)


def test_artifacts_stay_while_a_checkpoint_cannot_be_read() -> None:
    mission = fleet.launch({"one": {}})
    operations.capture(missions=[mission.id])
    ref = next(storage.manifests())
    (settings.FLEET_CHECKPOINTS / ref / "manifest.json.zst").write_text("{")
    assert artifacts.in_use({"a" * 64}) == {"a" * 64}
    storage.remove_manifest(ref)


def test_a_full_disk_stops_neither_the_mission_nor_its_cancel(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mission = fleet.launch({"one": {}})
    with on_full_disk(tmp_path), caplog.at_level(logging.WARNING):
        missions.cancel(mission=mission.id)
    assert fleet.state(mission.id) == "cancelled"
    event = Event.objects.get(kind="checkpoint.failed")
    assert event.data["error"].startswith("The checkpoint could not be written: Not a directory.")
    assert "a mission could not be captured (cancel): The checkpoint could not be written" in caplog.text
    assert not Checkpoint.objects.exists()
