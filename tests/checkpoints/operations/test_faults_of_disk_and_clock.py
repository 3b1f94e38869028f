"""A full disk and a clock that steps back lose no checkpoint and change no mission."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from django.test import override_settings
from django.utils import timezone

from checkpoints import operations, policy
from checkpoints.files import storage
from checkpoints.models import Checkpoint
from checkpoints.operations import capturing
from checkpoints.rows import reading
from fleet import errors, ids
from missions import operations as missions
from missions.engine.process.runtime import Engine
from missions.models import Mission
from tests.support import fleet
from tests.support.checkpoints import DIAMOND, digest, manifest
from tests.support.full_disk import full_disk

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


# ── A full disk ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("after", [0, 300, 600])
def test_a_restore_on_a_full_disk_changes_nothing(engine: Engine, after: int) -> None:
    mission = fleet.launch(DIAMOND)
    start = operations.capture(missions=[mission.id])
    fleet.run_to_end(engine, mission)
    end_digest = digest(mission)
    with full_disk(after), pytest.raises(errors.Unavailable, match=r"could not be written: File too large"):
        operations.restore(checkpoint=start, can_execute=True)
    assert (digest(mission), fleet.state(mission.id)) == (end_digest, "succeeded")
    assert list(Checkpoint.objects.all()) == [start]
    operations.restore(checkpoint=start, can_execute=True)
    assert operations.verify(checkpoints=Checkpoint.objects.all()) == []


def test_a_full_disk_can_be_pruned() -> None:
    mission = fleet.launch({f"s{number}": {} for number in range(3)})
    for number in range(3):
        missions.cancel_sortie(sortie=mission.sorties.get(key=f"s{number}").id)
        operations.capture(missions=[mission.id])
    newest = Checkpoint.objects.order_by("-id")[0]
    with full_disk(), override_settings(FLEET_CHECKPOINT_COUNT=1):
        assert len(operations.prune(now=timezone.now(), dry_run=False).checkpoints) == 2
    assert list(Checkpoint.objects.all()) == [newest]
    assert operations.verify(checkpoints=[newest]) == []
    used = {part.blob for part in manifest(newest).parts}
    assert set(storage.blobs()) == used


# ── A clock that steps back ──────────────────────────────────────────────────────────────────────────────────────────


def captured_an_hour_ahead(mission: Mission) -> Checkpoint:
    """A checkpoint from before the clock was set back by an hour."""
    ahead = UUID(int=ids.new().int + (3_600_000 << 80))
    with reading.snapshot() as snapshot:
        current = reading.mission(mission.id)
    checkpoint = capturing.store(id=ahead, missions=[current], snapshot=snapshot, trigger=Checkpoint.Trigger.REQUEST)
    Checkpoint.objects.filter(id=ahead).update(created_at=timezone.now() + timedelta(hours=1))
    checkpoint.refresh_from_db()
    return checkpoint


def test_after_a_clock_step_a_new_capture_is_still_the_newest(engine: Engine) -> None:
    mission = fleet.launch(DIAMOND)
    ahead = captured_an_hour_ahead(mission)
    fleet.run_to_end(engine, mission)
    second = operations.capture(missions=[mission.id])
    third = operations.capture(missions=[mission.id])
    assert list(Checkpoint.objects.order_by("-id")) == [third, second, ahead]
    assert (second.parent, third.parent) == (ahead.id, second.id)
    assert manifest(third).missions[0].digest == digest(mission)
    safety = operations.restore(checkpoint=ahead, can_execute=True).safety
    assert safety == Checkpoint.objects.order_by("-id").first()


def test_after_a_clock_step_progress_and_failures_are_captured_once(engine: Engine) -> None:
    mission = fleet.launch({"bad": {"with": {"fail": "no"}}, "slow": {"agent": "frontend"}})
    captured_an_hour_ahead(mission)
    engine.run_slot()
    assert len(policy.capture_due()) == 1
    assert policy.capture_due() == []


def test_a_mission_is_captured_at_its_interval_without_waiting_for_the_old_time(engine: Engine) -> None:
    mission = fleet.launch({"one": {}, "two": {"agent": "frontend"}}, checkpoints={"every": "10m", "at": [], "on": []})
    captured_an_hour_ahead(mission)
    engine.run_slot()
    assert [checkpoint.trigger for checkpoint in policy.capture_due()] == ["interval"]
    assert policy.capture_due() == []


def test_after_a_clock_step_retention_keeps_the_newest_checkpoint(engine: Engine) -> None:
    mission = fleet.launch(DIAMOND)
    captured_an_hour_ahead(mission)
    fleet.run_to_end(engine, mission)
    newest = operations.capture(missions=[mission.id])
    with override_settings(FLEET_CHECKPOINT_COUNT=1):
        operations.prune(now=timezone.now(), dry_run=False)
    assert list(Checkpoint.objects.all()) == [newest]
