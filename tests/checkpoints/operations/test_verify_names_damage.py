"""Verification finds all damage and names the affected checkpoints; a restore names the newest intact one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from checkpoints import operations
from checkpoints.files import storage
from checkpoints.models import Checkpoint
from missions import operations as missions
from missions.artifacts import collection
from missions.engine.process.runtime import Engine
from missions.models import Artifact, Mission
from tests.support import fleet
from tests.support.checkpoints import digest

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


@pytest.fixture
def pair() -> tuple[Mission, Checkpoint, Checkpoint]:
    """A mission, and two of its checkpoints that share all blobs of sorties but one."""
    mission = fleet.launch({f"s{number}": {} for number in range(20)})
    first = operations.capture(missions=[mission.id])
    missions.cancel_sortie(sortie=mission.sorties.get(key="s7").id)
    return mission, first, operations.capture(missions=[mission.id])


def blobs(checkpoint: Checkpoint) -> set[str]:
    """The blobs of a checkpoint's sorties."""
    (entry,) = storage.read_manifest(checkpoint.ref).missions
    return {part.blob for part in entry.buckets.values()}


def path(blob: str) -> Path:
    return settings.FLEET_CHECKPOINTS / "blobs" / f"{blob}.zst"


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def files(checkpoint: Checkpoint) -> Iterator[Path]:
    yield settings.FLEET_CHECKPOINTS / checkpoint.ref / "manifest.json.zst"
    yield from (path(part.blob) for part in storage.read_manifest(checkpoint.ref).parts)


def test_intact_checkpoints_have_no_damage(pair: tuple[Mission, Checkpoint, Checkpoint]) -> None:
    assert operations.verify(checkpoints=pair[1:]) == []


def test_a_flipped_bit_is_found_in_every_file(pair: tuple[Mission, Checkpoint, Checkpoint]) -> None:
    _, first, _ = pair
    for file in list(files(first)):
        before = file.read_bytes()
        flip(file)
        assert operations.verify(checkpoints=[first]), file
        file.write_bytes(before)
    assert operations.verify(checkpoints=[first]) == []


def test_damage_to_a_shared_blob_names_every_checkpoint_that_uses_it(
    pair: tuple[Mission, Checkpoint, Checkpoint],
) -> None:
    _, first, second = pair
    shared = min(blobs(first) & blobs(second))
    path(shared).unlink()
    (damage,) = operations.verify(checkpoints=[first])
    assert damage.message == f"The blob {shared[:12]}… is missing."
    assert damage.shared_by == (first.ref, second.ref)


def test_missing_artifact_bytes_are_damage(engine: Engine, tmp_path: Path) -> None:
    mission = fleet.launch({"one": {"run": "echo made > made.txt", "outputs": ["made.txt"]}}, folder=str(tmp_path))
    fleet.run_to_end(engine, mission)
    checkpoint = operations.capture(missions=[mission.id])
    collection.delete(Artifact.objects.get().digest)
    (damage,) = operations.verify(checkpoints=[checkpoint])
    assert damage.message.startswith("The bytes of the artifact made.txt (")
    second = operations.capture(missions=[mission.id])
    for selected in ([checkpoint], [checkpoint, second]):
        (damage,) = operations.verify(checkpoints=selected)
        assert damage.shared_by == (checkpoint.ref, second.ref)


def test_a_restore_of_a_damaged_checkpoint_changes_nothing_and_names_the_newest_intact_one(
    pair: tuple[Mission, Checkpoint, Checkpoint],
) -> None:
    mission, first, second = pair
    path((blobs(first) - blobs(second)).pop()).unlink()
    before = digest(mission)
    with pytest.raises(storage.CheckpointDamaged) as error:
        operations.restore(checkpoint=first, can_execute=True)
    assert error.value.hint == f"The newest intact checkpoint of the mission is {second.ref}."
    assert digest(mission) == before
