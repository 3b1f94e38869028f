"""`fleet mission …` and `manage.py fleet_mission …` are one command; `fleet` alone lists all of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import get_commands

import fleet
from fleet.console import spelling
from tests.support.paths import CHECKOUT

OURS = {name for name in get_commands() if name.startswith("fleet_")}


def command(*argv: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, cwd=CHECKOUT, env={**os.environ, "FLEET_HOME": str(home)}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip


@pytest.fixture
def program(tmp_path: Path) -> str:
    link = tmp_path / "fleet"
    link.symlink_to(CHECKOUT / "manage.py")
    return str(link)


def test_the_overview_lists_every_command_of_the_fleet_on_one_line() -> None:
    assert {spelling.long(word) for word in spelling.COMMANDS} == OURS
    lines = spelling.overview().splitlines()
    for word in spelling.COMMANDS:
        assert sum(line.split()[:1] == [word] for line in lines) == 1
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("words", [(), ("help",), ("-h",), ("--help",)], ids=str)
def test_fleet_alone_and_its_help_print_the_overview(words: tuple[str, ...], program: str, tmp_path: Path) -> None:
    result = command(program, *words, home=tmp_path / "home")
    assert (result.returncode, result.stdout) == (0, spelling.overview() + "\n")
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("word", ["--version", "version"])
def test_the_version_is_that_of_the_package(word: str, program: str, tmp_path: Path) -> None:
    assert command(program, word, home=tmp_path).stdout == f"fleet {fleet.__version__}\n"
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", fleet.__version__)


@pytest.mark.parametrize("words", [("mission",), ("fleet_mission",)], ids=str)
def test_either_name_of_a_command_works_with_either_program(
    words: tuple[str, ...], program: str, tmp_path: Path
) -> None:
    for argv in ((program,), (sys.executable, "manage.py"), (sys.executable, "-m", "fleet")):
        help_option_output = command(*argv, *words, "--help", home=tmp_path).stdout
        help_output = command(*argv, "help", *words, home=tmp_path).stdout
        name = "fleet_mission" if "manage.py" in argv else "mission"
        assert help_option_output == help_output
        assert f"{Path(argv[-1]).name} {name} [-h] ACTION" in " ".join(help_option_output.split())


def test_djangos_own_commands_keep_their_names(program: str, tmp_path: Path) -> None:
    assert command(program, "migrate", "--help", home=tmp_path).stdout.startswith("usage: fleet migrate")
    assert "fleet_up" in command("./manage.py", "help", home=tmp_path).stdout


def test_a_misspelled_command_names_the_similar_one(program: str, tmp_path: Path) -> None:
    result = command(program, "misson", "list", home=tmp_path)
    assert result.returncode == 2
    assert f"There is no command 'misson'. Did you mean {program} mission? " in result.stderr
    result = command("./manage.py", "fleet_mision", home=tmp_path)
    assert "Did you mean ./manage.py fleet_mission? List them: ./manage.py help\n" in result.stderr
