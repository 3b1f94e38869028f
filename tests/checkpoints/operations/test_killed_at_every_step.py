"""A process that is killed at any step of a capture, a restore or a prune leaves everything usable."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command
from django.test import override_settings
from django.utils import timezone

from checkpoints import operations
from checkpoints.files import storage
from checkpoints.models import Checkpoint
from fleet import errors
from missions import operations as missions
from missions.engine.process.runtime import Engine
from tests.support import fleet
from tests.support.checkpoints import DIAMOND, digest, manifest
from tests.support.processes import killing

pytestmark = [
    pytest.mark.django_db(transaction=True, serialized_rollback=True),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.timeout(300),
]


def intact() -> bool:
    return operations.verify(checkpoints=Checkpoint.objects.all()) == []


def test_a_killed_capture_leaves_no_checkpoint_that_is_not_intact() -> None:
    mission = fleet.launch(DIAMOND)
    before = digest(mission)
    rows = 0
    kills = 0
    for _ in killing.at_each_step(lambda: operations.capture(missions=[mission.id]), folder=settings.FLEET_CHECKPOINTS):
        kills += 1
        assert intact()
        rows = max(rows, Checkpoint.objects.count())
    assert kills > 10
    assert Checkpoint.objects.count() >= 1
    assert digest(mission) == before
    operations.prune(now=timezone.now(), dry_run=False)
    assert intact()


def test_a_killed_restore_changes_everything_or_nothing(engine: Engine) -> None:
    mission = fleet.launch(DIAMOND)
    start = operations.capture(missions=[mission.id])
    fleet.run_to_end(engine, mission)
    end_digest = digest(mission)
    (entry,) = manifest(start).missions
    kills = 0
    for _ in killing.at_each_step(
        lambda: operations.restore(checkpoint=start, can_execute=True), folder=settings.FLEET_CHECKPOINTS
    ):
        kills += 1
        if digest(mission) != end_digest:  # the transaction was committed, but not what follows it
            assert digest(mission) == entry.digest
            break
    assert kills > 20
    assert digest(mission) in (end_digest, entry.digest)
    operations.restore(checkpoint=start, can_execute=True)
    assert digest(mission) == entry.digest
    assert intact()


def test_a_killed_prune_keeps_everything_that_is_needed() -> None:
    mission = fleet.launch({f"s{number}": {} for number in range(5)})
    for number in range(5):
        missions.cancel_sortie(sortie=mission.sorties.get(key=f"s{number}").id)
        operations.capture(missions=[mission.id])
    newest = Checkpoint.objects.order_by("-id")[0]

    def prune() -> None:
        with override_settings(FLEET_CHECKPOINT_COUNT=1):
            operations.prune(now=timezone.now() + timedelta(days=1), dry_run=False)

    kills = 0
    for _ in killing.at_each_step(prune, folder=settings.FLEET_CHECKPOINTS):
        kills += 1
        assert intact()
        assert newest in Checkpoint.objects.all()
    assert kills > 5
    used = {part.blob for ref in storage.manifests() for part in storage.read_manifest(ref).parts}
    assert set(storage.blobs()) == used


def test_a_killed_export_leaves_a_file_that_no_import_accepts(engine: Engine, tmp_path: Path) -> None:
    mission = fleet.launch(DIAMOND)
    fleet.run_to_end(engine, mission)
    checkpoint = operations.capture(missions=[mission.id])
    path = tmp_path / "exported"
    kills = 0
    for _ in killing.at_each_step(
        lambda: call_command("fleet_checkpoint", "export", checkpoint.ref, str(path)), folder=tmp_path
    ):
        kills += 1
        if path.exists():
            with path.open("rb") as file, pytest.raises(errors.Invalid, match="incomplete"):
                operations.import_file(file=file, by=None, can_execute=True)
            path.unlink()
    assert kills >= 3
    assert intact()
    with path.open("rb") as file:
        assert digest(operations.import_file(file=file, by=None, can_execute=True).mission) == digest(mission)
