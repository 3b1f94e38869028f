"""The scratch folder of a killed agent's attempt is removed when an agent or a node starts (test_faults_that_halt.py),
or by cleanup."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from fleet import ids
from missions import removal
from missions.engine.attempts import scratch
from missions.models import Sortie
from tests.support import fleet
from tests.support.console import manage
from tests.support.waiting import until

pytestmark = [
    pytest.mark.django_db(transaction=True, serialized_rollback=True),
    pytest.mark.xdist_group("scratch"),
]


def create_scratch(sortie: Sortie, attempt: int) -> Path:
    folder = scratch.path(f"{sortie.ref}/{attempt}")
    scratch.make(folder)
    (folder / "file").touch()
    return folder


def test_folders_of_ended_attempts_are_removed_and_those_of_running_ones_stay() -> None:
    engine = fleet.engine()
    try:
        mission = fleet.launch({"one": {"with": {"hold": True}}, "two": {"agent": "testing"}})
        engine._start_another_slot()
        until(lambda: fleet.states(mission.id)["one"] == "running")
        first, second = Sortie.objects.filter(mission=mission).order_by("key")
        other = settings.FLEET_HOME.scratch / "somebody's own"
        other.mkdir(exist_ok=True)
        runs = create_scratch(first, 1)
        to_remove = [
            create_scratch(first, 2),
            create_scratch(second, 1),
            scratch.path(f"{ids.encode(ids.SORTIE, ids.new())}/7"),
        ]
        scratch.make(to_remove[-1])
        assert manage("fleet_cleanup", "--json").json["scratch_folders"] == 3
        assert all(folder.exists() for folder in to_remove), "a dry run"
        assert manage("fleet_cleanup", "--yes", "--json").json["scratch_folders"] == 3
        assert not any(folder.exists() for folder in to_remove)
        assert runs.exists()
        assert other.exists()
    finally:
        engine.stop(within_s=0)
    assert scratch.sweep() == 1
    other.rmdir()


def test_a_folder_without_permissions_is_removed_too(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o500)
    folder = tmp_path / "srt"
    (folder / "shut" / "within").mkdir(parents=True)
    (folder / "link").symlink_to(outside)
    (folder / "shut" / "within").chmod(0)
    (folder / "shut").chmod(0)
    removal.remove(folder)
    assert not folder.exists()
    assert outside.stat().st_mode & 0o777 == 0o500, "the target of a link is left alone"


def test_deeply_nested_folders_are_removed(tmp_path: Path) -> None:
    """A folder nested deeper than Python's recursion limit must not block a slot, or keep agents from starting."""
    folder = tmp_path / "srt"
    folder.mkdir()
    nest = "import os\nfor _ in range(3000): os.mkdir('d' * 10); os.chdir('d' * 10)\nopen('file', 'w').close(); os.chmod('.', 0)"
    subprocess.run([sys.executable, "-c", nest], cwd=folder, check=True)
    removal.remove(folder)
    assert not folder.exists()
