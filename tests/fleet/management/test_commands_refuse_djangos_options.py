"""The fleet's commands do not have Django's own options, and show the usage of the action whose arguments are unknown."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import call_command, get_commands, load_command_class

from fleet.console import spelling
from tests.support.paths import CHECKOUT

DJANGO_OPTIONS = (
    "--settings",
    "--pythonpath",
    "--verbosity",
    "--traceback",
    "--no-color",
    "--force-color",
    "--skip-checks",
)


def run(*words: str, home: Path) -> tuple[int, str]:
    result = subprocess.run(
        [sys.executable, "-m", "fleet", *words],
        cwd=CHECKOUT, env={**os.environ, "FLEET_HOME": str(home)}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    return result.returncode, result.stderr


@pytest.mark.parametrize("name", [spelling.long(word) for word in spelling.COMMANDS])
def test_no_help_shows_an_option_of_django(name: str) -> None:
    command_help = load_command_class(get_commands()[name], name).create_parser("manage.py", name).format_help()
    assert not [option for option in (*DJANGO_OPTIONS, "-v ") if option in command_help]


@pytest.mark.parametrize("option", ["--settings=none", "--pythonpath=/", "-v2", *DJANGO_OPTIONS[3:]])
def test_an_option_of_django_is_refused(option: str, tmp_path: Path) -> None:
    code, text = run("control", option, home=tmp_path)
    assert (code, text.splitlines()[0]) == (2, f"Unrecognized arguments: {option}.")


def test_unknown_arguments_of_an_action_are_followed_by_its_usage(tmp_path: Path) -> None:
    code, text = run("schedule", "list", "--settings", "none", home=tmp_path)
    sentence, usage = text.splitlines()[:2]
    assert (code, sentence) == (2, "Unrecognized arguments: --settings none.")
    assert usage.startswith("usage: ")
    assert "fleet schedule list [-h]" in usage


def test_a_command_of_django_reports_missing_settings_in_one_line(tmp_path: Path) -> None:
    assert run("check", "--settings", "none", home=tmp_path) == (2, "Invalid settings: No module named 'none'\n")


@pytest.mark.django_db
def test_a_program_can_still_pass_options_of_django_by_keyword() -> None:
    output = io.StringIO()
    call_command("fleet_user", "list", "--json", verbosity=0, no_color=True, skip_checks=True, stdout=output)
    assert output.getvalue().startswith("[")
