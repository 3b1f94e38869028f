"""Work can neither create nor replace the fleet's own folders, even if its mission's folder is where they belong."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.test import override_settings

from missions.engine.process.runtime import Engine
from missions.models import Attempt
from tests.support import fleet
from tests.support.waiting import until
from tests.support.work.driver_runs import DriverRun, brief

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def test_work_cannot_plant_a_checkpoint_or_a_backup_before_there_are_any(engine: Engine, tmp_path: Path) -> None:
    """The commands would take what they find there for their own, and restore it."""
    checkpoints, backups = tmp_path / ".flightline" / "checkpoints", tmp_path / ".flightline" / "backups"
    shell = f"""
        for folder in {checkpoints} {backups}; do mkdir -p $folder/planted; echo forged > $folder/planted/manifest.json; done
        mv {tmp_path}/.flightline {tmp_path}/aside; ln -s {tmp_path}/mine {tmp_path}/.flightline; true
        """
    with override_settings(FLEET_CHECKPOINTS=checkpoints, FLEET_BACKUPS=backups):
        mission = fleet.launch({"one": {"run": shell}}, folder=str(tmp_path))
        fleet.run_to_end(engine, mission)
    assert Attempt.objects.get(sortie__mission=mission).state == "succeeded"
    assert [path for folder in (checkpoints, backups) if folder.exists() for path in folder.iterdir()] == []
    assert not (tmp_path / ".flightline").is_symlink()


def test_running_work_sees_no_backup_that_is_made_meanwhile(tmp_path: Path) -> None:
    scratch, project = tmp_path / "scratch", tmp_path / "project"
    backups = project / ".flightline" / "backups"
    scratch.mkdir()
    project.mkdir()
    shell = f"echo started > {project}/started; while ! test -e {project}/go; do sleep .05; done; cat {backups}/*; true"
    for fields in ({"writable": (project,)}, {"writable": (project,), "readable": (project,)}):
        run = DriverRun("command", brief(scratch, shell=shell, hidden=(backups,), **fields))
        until(lambda: (project / "started").exists())
        backups.mkdir(parents=True, exist_ok=True)
        (backups / "database.dump").write_text("the hashes of all passwords")
        (project / "go").touch()
        assert run.end().ok
        assert "hashes" not in run.reporter.out
        for name in ("started", "go"):
            (project / name).unlink()


@pytest.mark.parametrize("link", [".fleet", ".fleet/private"])
def test_a_link_to_a_folder_of_the_fleet_that_work_could_replace_is_refused(tmp_path: Path, link: str) -> None:
    scratch, project, home = tmp_path / "scratch", tmp_path / "project", tmp_path / "disk"
    for folder in (scratch, project, home / "private"):
        folder.mkdir(parents=True)
    (project / link).parent.mkdir(exist_ok=True)
    (project / link).symlink_to(home)
    attempt_brief = brief(scratch, shell="true", writable=(project,), hidden=(project / ".fleet" / "private",))
    evidence = DriverRun("command", attempt_brief).end()
    assert not evidence.ok
    assert f"{project / link} is a symbolic link" in evidence.error


def test_a_link_that_work_cannot_replace_is_allowed(tmp_path: Path) -> None:
    scratch, project, home = tmp_path / "scratch", tmp_path / "project", tmp_path / "disk"
    for folder in (scratch, project, home):
        folder.mkdir()
    (home / "secret").write_text("secret")
    (tmp_path / "link").symlink_to(home)
    attempt_brief = brief(scratch, shell=f"cat {home}/secret; true", writable=(project,), hidden=(tmp_path / "link",))
    run = DriverRun("command", attempt_brief)
    assert run.end().ok
    assert "secret" not in run.reporter.out


def test_a_folder_that_work_cannot_see_is_not_created(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert DriverRun("command", brief(scratch, shell="true", hidden=(tmp_path / "absent" / "backups",))).end().ok
    assert not (tmp_path / "absent").exists()
