"""Retention deletes old and surplus checkpoints, and blobs only after everything that refers to them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.conf import settings
from django.test import override_settings
from django.utils import timezone

from checkpoints import operations
from checkpoints.files import storage
from checkpoints.models import Checkpoint
from fleet import errors
from missions import operations as missions
from missions.models import Mission
from missions.operations import cleaning
from tests.support import fleet
from tests.support.checkpoints import digest

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def series(count: int) -> tuple[Mission, list[Checkpoint]]:
    """A mission with checkpoints, each of which differs from the one before."""
    mission = fleet.launch({f"s{number}": {} for number in range(count)})
    checkpoints = []
    for number in range(count):
        missions.cancel_sortie(sortie=mission.sorties.get(key=f"s{number}").id)
        checkpoints.append(operations.capture(missions=[mission.id]))
    return mission, checkpoints


def remaining() -> list[Checkpoint]:
    return list(Checkpoint.objects.order_by("id"))


def test_a_dry_run_removes_nothing() -> None:
    _, checkpoints = series(3)
    with override_settings(FLEET_CHECKPOINT_COUNT=1):
        pruned = operations.prune(now=timezone.now(), dry_run=True)
    assert set(pruned.checkpoints) == set(checkpoints[:2])
    assert pruned.blobs > 0
    assert remaining() == checkpoints


def test_surplus_checkpoints_go_and_the_others_stay_intact() -> None:
    _, checkpoints = series(4)
    with override_settings(FLEET_CHECKPOINT_COUNT=2):
        operations.prune(now=timezone.now(), dry_run=False)
    assert remaining() == checkpoints[2:]
    assert operations.verify(checkpoints=remaining()) == []
    assert set(storage.manifests()) == {checkpoint.ref for checkpoint in remaining()}
    used = {part.blob for checkpoint in remaining() for part in storage.read_manifest(checkpoint.ref).parts}
    assert set(storage.blobs()) == used


def test_the_newest_named_and_kept_checkpoints_stay_regardless_of_their_age() -> None:
    mission, checkpoints = series(2)
    named_checkpoint = operations.capture(missions=[mission.id], name="before the merge")
    pinned = operations.capture(missions=[mission.id], keep=True)
    newest = operations.capture(missions=[mission.id])
    operations.prune(now=timezone.now() + timedelta(days=1_000), dry_run=False)
    assert remaining() == [named_checkpoint, pinned, newest]
    assert checkpoints[0] not in remaining()


def test_all_checkpoints_together_stay_below_the_limit_of_bytes() -> None:
    _, checkpoints = series(3)
    with override_settings(FLEET_CHECKPOINT_BYTES=checkpoints[-1].new_bytes + 1):
        operations.prune(now=timezone.now(), dry_run=False)
    assert remaining() == checkpoints[-1:]


def test_shared_files_count_once_even_after_the_checkpoint_that_added_them_was_removed() -> None:
    _, (first, second, third) = series(3)
    shared = first.new_bytes // 2
    assert second.new_bytes < shared
    with override_settings(FLEET_CHECKPOINT_BYTES=third.bytes + second.new_bytes + first.new_bytes):
        operations.prune(now=timezone.now(), dry_run=False)
    assert remaining() == [first, second, third], "they share many files"
    operations.delete(checkpoint=first)
    with override_settings(FLEET_CHECKPOINT_BYTES=shared):
        operations.prune(now=timezone.now(), dry_run=False)
    assert remaining() == [third], "files that the first checkpoint added still take up space"


def test_blobs_that_a_killed_capture_left_are_removed() -> None:
    storage.add({"0" * 64: b"left behind"})
    assert operations.prune(now=timezone.now(), dry_run=False).blobs == 1
    assert list(storage.blobs()) == []


def test_a_manifest_without_a_row_is_adopted_and_never_removed() -> None:
    mission, _ = series(1)
    lost = remaining()[0]
    Checkpoint.objects.all().delete()
    operations.prune(now=timezone.now() + timedelta(days=1_000), dry_run=False)
    (checkpoint,) = remaining()
    assert (checkpoint.id, checkpoint.digest, checkpoint.missions, checkpoint.keep) == (
        lost.id,
        lost.digest,
        [mission.id],
        True,
    )


def test_nothing_is_removed_while_a_manifest_cannot_be_read() -> None:
    series(1)
    (ref,) = storage.manifests()
    (settings.FLEET_CHECKPOINTS / ref / "manifest.json.zst").write_text("{")
    before = set(storage.blobs())
    with pytest.raises(errors.Conflict, match="none can be removed"):
        operations.prune(now=timezone.now(), dry_run=False)
    assert set(storage.blobs()) == before


def test_deleting_one_leaves_those_that_share_its_blobs_intact() -> None:
    _, (first, second) = series(2)
    operations.delete(checkpoint=first)
    assert remaining() == [second]
    assert operations.verify(checkpoints=[second]) == []


def test_a_mission_whose_rows_were_removed_comes_back() -> None:
    mission, checkpoints = series(2)
    end = operations.capture(missions=[mission.id])
    before = digest(mission)
    cleaning.remove(missions=[mission.id])
    assert not Mission.objects.filter(id=mission.id).exists()
    operations.restore(checkpoint=end, can_execute=True)
    assert (Mission.objects.get(id=mission.id).state, digest(mission)) == ("failed", before)
    operations.restore(checkpoint=checkpoints[0], can_execute=True)
    assert Mission.objects.get(id=mission.id).state == "paused"
