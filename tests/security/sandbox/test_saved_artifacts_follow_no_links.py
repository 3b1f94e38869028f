"""Saving artifacts writes nothing through a link that work has put into the folder of its mission."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from missions.models import Mission, Sortie
from tests.missions.management.fleet_mission import fleet_mission
from tests.support import artifacts, web

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a mission with one artifact, in which the operator runs the commands."""
    folder = tmp_path / "project"
    folder.mkdir()
    mission = web.ended_mission()
    Mission.objects.filter(id=mission.id).update(folder=str(folder))
    artifacts.add(Sortie.objects.get(mission=mission, key="good"), path="docs/report.md", content=b"malicious")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A folder of the user that work cannot see, with one file."""
    folder = tmp_path / "private"
    (folder / "docs").mkdir(parents=True)
    (folder / "docs" / "report.md").write_text("mine")
    return folder


def save() -> tuple[int, str]:
    result = fleet_mission("artifacts", Mission.objects.latest("id").ref, "--save", "report")
    return result.code, result.err


def untouched(private: Path) -> bool:
    files = sorted(path.relative_to(private).as_posix() for path in private.rglob("*"))
    return files == ["docs", "docs/report.md"] and (private / "docs" / "report.md").read_text() == "mine"


def test_a_link_in_place_of_the_file_is_replaced(project: Path, private: Path) -> None:
    (project / "report" / "good" / "docs").mkdir(parents=True)
    (project / "report" / "good" / "docs" / "report.md").symlink_to(private / "docs" / "report.md")
    assert save()[0] == 0
    assert untouched(private)
    assert (project / "report" / "good" / "docs" / "report.md").read_bytes() == b"malicious"


def test_a_link_in_place_of_a_folder_below_is_refused(project: Path, private: Path) -> None:
    (project / "report").mkdir()
    (project / "report" / "good").symlink_to(private)
    code, error = save()
    assert (code, "cannot be written" in error) == (1, True)
    assert untouched(private)


def test_a_link_in_place_of_the_folder_itself_is_refused(project: Path, private: Path) -> None:
    (project / "report").symlink_to(private)
    code, error = save()
    assert (code, f"{project}/report is a symbolic link" in error) == (2, True)
    assert untouched(private)


def test_a_pipe_in_place_of_the_file_does_not_stop_the_command(project: Path) -> None:
    (project / "report" / "good" / "docs").mkdir(parents=True)
    os.mkfifo(project / "report" / "good" / "docs" / "report.md")
    assert save()[0] == 0
    assert (project / "report" / "good" / "docs" / "report.md").read_bytes() == b"malicious"


def test_a_link_that_no_mission_can_change_is_followed(project: Path, private: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(private)
    ref = Mission.objects.latest("id").ref
    assert fleet_mission("artifacts", ref, "--save", str(tmp_path / "link" / "kept")).code == 0
    assert (private / "kept" / "good" / "docs" / "report.md").read_bytes() == b"malicious"
