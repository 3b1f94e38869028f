"""Checkpoints that earlier versions wrote can be verified, restored, forked and imported.

`samples/format-N` was written by the first version with that format, and is never written again. A version with a new
format adds a sample: a folder of checkpoints with one mission, an export of it, and what is expected. The manifest of
`format-1` is not compressed, as in the first versions; that of `format-1-compressed` is.
"""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.files.base import ContentFile

from checkpoints import document, operations
from checkpoints.models import Checkpoint
from missions import operations as missions
from missions.artifacts import collection
from missions.models import Artifact, Attempt, Mission, Sortie
from tests.support import fleet
from tests.support.checkpoints import digest, manifest

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

SAMPLES = sorted((Path(__file__).parent / "samples").iterdir())


@pytest.fixture(params=SAMPLES, ids=lambda path: path.name)
def sample(request: pytest.FixtureRequest) -> Path:
    """The folder of a sample, whose checkpoint is among those of the fleet."""
    shutil.copytree(request.param / "checkpoints", settings.FLEET_CHECKPOINTS, dirs_exist_ok=True)
    return Path(request.param)


@pytest.fixture
def checkpoint(sample: Path) -> Checkpoint:
    (adopted,) = operations.adopt()
    (entry,) = manifest(adopted).missions
    for path in (sample / "artifacts").iterdir():
        collection.add(path.name, ContentFile(path.read_bytes()))
    assert entry.digest == expected(sample)["digest"]
    return adopted


def expected(sample: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((sample / "expected.json").read_text())
    return content


def test_the_current_format_has_a_sample() -> None:
    assert f"format-{document.FORMAT}" in [path.name for path in SAMPLES]


def test_it_is_intact(checkpoint: Checkpoint) -> None:
    assert (checkpoint.name, checkpoint.sorties, checkpoint.failed) == ("a sample", 11, 2)
    assert operations.verify(checkpoints=[checkpoint]) == []


def test_it_is_restored_exactly_and_the_mission_goes_on(sample: Path, checkpoint: Checkpoint) -> None:
    mission = operations.restore(checkpoint=checkpoint, can_execute=True).mission
    assert digest(mission) == expected(sample)["digest"]
    final_states = {"succeeded", "failed", "skipped", "cancelled"}
    states = {key: state for key, state in expected(sample)["states"].items() if state in final_states}
    assert fleet.states(mission.id).items() >= states.items()
    assert Attempt.objects.get(sortie__key="exact").result == {"big": 2**60 + 1, "text": "ü\u2028", "ratio": 1.5}
    assert Attempt.objects.get(sortie__key="later").resume == {"step": 7}
    assert Artifact.objects.get().digest in [path.name for path in (sample / "artifacts").iterdir()]
    assert Sortie.objects.get(key="added").added_by == Sortie.objects.get(key="exact")
    missions.cancel(mission=mission.id)
    assert Mission.objects.get(id=mission.id).state == "cancelled"


def test_it_is_forked(sample: Path, checkpoint: Checkpoint) -> None:
    mission = operations.fork(checkpoint=checkpoint, can_execute=True).mission
    assert digest(mission) == expected(sample)["digest"]


def test_its_export_is_imported(sample: Path, checkpoint: Checkpoint) -> None:
    file = io.BytesIO((sample / "exported").read_bytes())
    imported = operations.import_file(file=file, by=None, can_execute=True)
    assert digest(imported.mission) == expected(sample)["digest"]
    assert imported.missing == ()
