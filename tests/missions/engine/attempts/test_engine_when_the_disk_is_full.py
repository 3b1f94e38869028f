"""On a full disk the attempt fails with the reason, and no truncated file counts as complete."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from missions import operations
from missions.artifacts import collection
from missions.engine.process.runtime import Engine
from missions.models import Artifact, Attempt
from tests.support import fleet
from tests.support.full_disk import full_disk

pytestmark = [  # the whole run has one folder of drafts
    pytest.mark.django_db(transaction=True, serialized_rollback=True),
    pytest.mark.xdist_group("drafts"),
]


@pytest.fixture
def engine() -> Iterator[Engine]:
    new_engine = fleet.engine(slots=1)
    yield new_engine
    new_engine.stop(within_s=5)


def test_an_output_on_a_full_disk_fails_its_sortie_and_is_complete_after_a_retry(
    engine: Engine, tmp_path: Path
) -> None:
    data = b"a report, line after line\n" * 100_000
    (tmp_path / "report.txt").write_bytes(data)
    mission = fleet.launch({"one": {"run": "true", "outputs": ["report.txt"]}}, folder=str(tmp_path))
    with full_disk(after=1_000_000):
        assert fleet.run_to_end(engine, mission) == "failed"
    assert "could not be stored: File too large" in Attempt.objects.get().error
    assert not Artifact.objects.exists()
    assert not list(settings.FLEET_HOME.artifacts.glob("drafts/*")), "it leaves no files behind"
    operations.retry(mission=mission.id, can_execute=True)
    assert fleet.run_to_end(engine, mission) == "succeeded"
    artifact = Artifact.objects.get()
    with collection.open_stored(artifact) as file:
        assert hashlib.sha256(file.read()).hexdigest() == artifact.digest == hashlib.sha256(data).hexdigest()


def test_a_result_on_a_full_disk_fails_its_sortie(engine: Engine) -> None:
    mission = fleet.launch({"one": {"run": 'head -c 900000 /dev/zero > "$FLEET_RESULT"'}, "two": {"run": "true"}})
    with full_disk(after=500_000):
        assert fleet.run_to_end(engine, mission) == "failed"
    assert fleet.states(mission.id) == {"one": "failed", "two": "succeeded"}
    assert Attempt.objects.filter(state="failed").get().error
