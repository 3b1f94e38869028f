"""`fleet init` where FLEET_HOME or a checkout gives the folder. tests/acceptance/test_an_installed_package.py has the rest."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from fleet import settings as fleet_settings
from missions.management.commands import fleet_init
from tests.support import console


@pytest.fixture
def file() -> Iterator[Path]:
    path = Path(settings.FLEET_HOME.root) / "settings.env"
    yield path
    path.unlink(missing_ok=True)


def test_a_missing_settings_file_is_created_for_its_user_alone(file: Path) -> None:
    result = console.manage("fleet_init")
    assert (result.code, result.out) == (0, "")
    assert "settings.env" in result.err
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    lines = file.read_text().splitlines()
    assert all(not line or line.startswith("#") for line in lines), "the file has no effect until a user edits it"


def test_a_file_that_exists_is_kept(file: Path) -> None:
    file.write_text("FLEET_LOG=json\n")
    assert "(exists already)" in console.manage("fleet_init").err
    assert file.read_text() == "FLEET_LOG=json\n"


def test_another_folder_is_refused_with_the_way_to_use_it(file: Path, tmp_path: Path) -> None:
    result = console.manage("fleet_init", str(tmp_path))
    assert result.code == 2
    assert f"fixes the fleet's folder to {settings.FLEET_HOME.root}." in result.err
    assert f"FLEET_HOME={tmp_path}/.fleet" in result.err
    assert not file.exists()


def test_the_new_settings_file_names_settings_that_exist() -> None:
    text = fleet_init.TEMPLATES.joinpath("settings.env").read_text()
    names = set(re.findall(r"^# ((?:FLEET|DATABASE|REDIS)\w*)=", text, re.MULTILINE))
    assert names
    assert names <= fleet_settings.env.names


@pytest.mark.django_db
def test_the_new_plan_is_valid() -> None:
    result = console.manage("fleet_mission", "validate", str(fleet_init.TEMPLATES / "plan.yaml"), "--json")
    assert result.json["valid"], result.out
    assert result.json["warnings"] == []
