"""The work of an attempt sees no checkpoint, even if the mission's folder contains them."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.test import override_settings

from missions.engine.process.runtime import Engine
from missions.models import Attempt
from tests.support import fleet

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def test_the_work_sees_no_checkpoint_and_cannot_write_one(engine: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    (folder / "blobs").mkdir(parents=True)
    (folder / "blobs" / "secret").write_text("captured")
    shell = f"ls {tmp_path}; find {folder} -type f; cat {folder}/blobs/secret; echo x > {folder}/new; true"
    with override_settings(FLEET_CHECKPOINTS=folder):
        mission = fleet.launch({"one": {"run": shell}}, folder=str(tmp_path))
        fleet.run_to_end(engine, mission)
    attempt = Attempt.objects.get(sortie__mission=mission)
    assert attempt.state == "succeeded"
    assert attempt.result == {"output": "checkpoints\n"}
    assert not (folder / "new").exists()
