"""`.fleet/settings.env` adds to the environment, once for all processes of a fleet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from fleet.config import settings_file
from fleet.config.env import Environment
from fleet.config.home import Home


@pytest.fixture
def fleet_home(tmp_path: Path) -> Iterator[Home]:
    before = dict(os.environ)
    os.environ.pop(settings_file.ALREADY_READ, None)
    yield Home(tmp_path)
    os.environ.clear()
    os.environ.update(before)


def write(fleet_home: Home, text: str) -> None:
    (fleet_home.root / "settings.env").write_text(text)


def test_lines_become_variables(fleet_home: Home) -> None:
    write(fleet_home, '# a comment\n\nA_1=plain $HOME # text\nB_1="in quotes"\nC_1=\'\n')
    settings_file.load(fleet_home)
    assert [os.environ[name] for name in ("A_1", "B_1", "C_1")] == ["plain $HOME # text", "in quotes", "'"]


def test_environment_variables_take_precedence_even_if_they_are_empty(fleet_home: Home) -> None:
    os.environ |= {"A_1": "from outside", "B_1": ""}
    write(fleet_home, "A_1=x\nB_1=x\n")
    settings_file.load(fleet_home)
    assert (os.environ["A_1"], os.environ["B_1"]) == ("from outside", "")


def test_a_process_that_a_process_of_the_fleet_started_reads_nothing(fleet_home: Home) -> None:
    """Its parent may have removed variables on purpose."""
    write(fleet_home, "A_1=x\n")
    settings_file.load(fleet_home).accept(set())
    del os.environ["A_1"]
    settings_file.load(fleet_home)
    assert "A_1" not in os.environ


def test_a_setting_that_does_not_exist_is_refused_and_another_programs_variable_is_not(fleet_home: Home) -> None:
    write(fleet_home, "SOME_API_KEY=x\nFLEET_LOG=json\nFLEET_LGO=json\n")
    file = settings_file.load(fleet_home)
    with pytest.raises(ImproperlyConfigured, match=r"settings.env, line 3: there is no setting FLEET_LGO\."):
        file.accept({"FLEET_LOG"})
    file.accept({"FLEET_LOG", "FLEET_LGO"})


def test_an_invalid_value_is_refused_with_its_line_unless_the_environment_replaces_it(fleet_home: Home) -> None:
    os.environ["FLEET_GRACE_S"] = "soon"
    write(fleet_home, "# shorter\nFLEET_LEASE_S=abc\nFLEET_GRACE_S=10\n")
    environment = Environment(places=settings_file.load(fleet_home).places)
    with pytest.raises(ImproperlyConfigured, match=r"settings.env, line 2: FLEET_LEASE_S='abc' is not a number\.$"):
        environment.number("FLEET_LEASE_S", 30)
    with pytest.raises(ImproperlyConfigured, match=r"^FLEET_GRACE_S='soon' is not a number\.$"):
        environment.number("FLEET_GRACE_S", 10)


@pytest.mark.parametrize("name", ["FLEET_HOME", "FLEET_PRIVATE"])
def test_the_folder_of_the_file_cannot_be_set_in_it(name: str, fleet_home: Home) -> None:
    write(fleet_home, f"{name}=/srv/fleet\n")
    with pytest.raises(ImproperlyConfigured, match=f"line 1: {name} is needed to find this file"):
        settings_file.load(fleet_home).accept({name})


@pytest.mark.parametrize("line", ["export A_1=x", "A_1", "1A=x", "A-1=x"])
def test_a_line_that_cannot_be_read_is_refused_with_its_number(line: str, fleet_home: Home) -> None:
    write(fleet_home, f"# first\n{line}\n")
    with pytest.raises(ImproperlyConfigured, match="line 2: expected NAME=VALUE"):
        settings_file.load(fleet_home)


def test_without_the_file_nothing_changes(fleet_home: Home) -> None:
    before = dict(os.environ)
    assert settings_file.load(fleet_home).lines == {}
    assert dict(os.environ) == before
