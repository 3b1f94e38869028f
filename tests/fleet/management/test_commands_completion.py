"""Tab completion in bash: commands, options, choices, missions and sorties; quick, and silent on errors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agents import operations as agents
from tests.support import fleet
from tests.support.paths import CHECKOUT

BIN = Path(sys.executable).parent

# What `complete` does when the Tab key is pressed, with argcomplete's own shell code.
PRESS = r"""
eval "$("$REGISTER" --external-argcomplete-script "$MANAGE" fleet)"
COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9 COMP_WORDBREAKS=$' \t\n"\'><=;|&(:'
$(complete -p fleet | sed 's/.*-F \([^ ]*\) .*/\1/') fleet
printf '%s\n' "${COMPREPLY[@]}"
"""


def tab(line: str, env: dict[str, str]) -> list[str]:
    """The completions of a line."""
    result = subprocess.run(
        ["bash", "-c", PRESS, "bash", line],
        env={
            **env,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "MANAGE": str(CHECKOUT / "manage.py"),
            "REGISTER": str(BIN / "register-python-argcomplete"),
        },
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert result.stderr == ""
    return [word.strip() for word in result.stdout.splitlines() if word.strip()]


@pytest.fixture
def nowhere(tmp_path: Path) -> dict[str, str]:
    """A fleet that was never started."""
    environment = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "REDIS_URL"}}
    return {**environment, "FLEET_HOME": str(tmp_path / "a home")}


def test_commands_actions_options_and_choices_are_offered_without_a_database(nowhere: dict[str, str]) -> None:
    commands = tab("fleet fleet_", nowhere)
    assert {"fleet_up", "fleet_mission", "fleet_status"} <= set(commands)
    assert {"run", "show", "logs"} <= set(tab("fleet fleet_mission ", nowhere))
    assert tab("fleet fleet_mission list --state pl", nowhere) == ["planned"]


def test_fleet_offers_the_short_names_and_completes_both(nowhere: dict[str, str]) -> None:
    assert {"up", "mission", "status"} <= set(tab("fleet ", nowhere))
    assert tab("fleet mi", nowhere) == ["mission"]
    assert tab("fleet migr", nowhere) == ["migrate"]
    assert {"run", "show", "logs"} <= set(tab("fleet mission ", nowhere))
    assert tab("fleet mission list --state pl", nowhere) == ["planned"]
    assert "mission" not in tab("./manage.py ", nowhere)


def test_names_of_services_are_offered_even_after_they_have_ended(nowhere: dict[str, str]) -> None:
    assert tab("fleet fleet_services logs ", nowhere) == []
    logs = Path(nowhere["FLEET_HOME"], "private", "logs")
    for name in ("valkey", "postgres"):
        (logs / f"{name}.log").touch()
    assert tab("fleet fleet_services logs ", nowhere) == ["postgres", "valkey"]
    assert tab("fleet fleet_services restart v", nowhere) == ["valkey"]


def test_errors_offer_nothing_and_print_nothing(nowhere: dict[str, str]) -> None:
    assert tab("fleet fleet_mission show ", nowhere) == []
    assert tab("fleet fleet_mission show ", {**nowhere, "DATABASE_URL": "nonsense"}) == []


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_missions_sorties_types_and_nodes_are_offered(subprocess_environment: dict[str, str]) -> None:
    first, second = fleet.launch({"one": {}}), fleet.launch({"ada": {}, "alan": {}, "grace": {}})
    assert set(tab("fleet fleet_mission show ", subprocess_environment)) == {"latest", first.ref, second.ref}
    assert tab("fleet fleet_mission logs latest a", subprocess_environment) == ["ada", "alan"]
    assert tab(f"fleet fleet_mission cancel {first.ref} ", subprocess_environment) == ["one"]
    agents.join(name="here", pid=1, start_time=0.0)
    assert tab("fleet fleet_agents spawn d", subprocess_environment) == ["documentation"]
    assert tab("fleet fleet_agents drain --node ", subprocess_environment) == ["here"]
