"""The two spellings of the fleet's commands: `fleet mission …` and `manage.py fleet_mission …`.

Both programs accept both. This module imports only the standard library, so `fleet help` answers at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

PROGRAM = "fleet"
PREFIX = "fleet_"
HELP = ("help", "-h", "--help")
VERSION = ("version", "--version")
# All commands, as in the overview. Each command's own help has the details.
GROUPS: dict[str, dict[str, str]] = {
    "Start and stop": {
        "init": "create the folder of a new fleet",
        "up": "start everything: Postgres, Valkey, the site and the agents",
        "down": "stop everything; the data is kept",
        "status": "show services, agents, queues, missions and addresses",
        "services": "start, stop and restart Postgres, Valkey and the other services; show their logs",
        "backup": "back up the data of the fleet; verify and restore backups",
        "doctor": "check this host and the fleet, and explain how to fix each problem",
    },
    "Missions": {
        "mission": "launch missions, watch them, and control them",
        "schedule": "launch missions on a cron schedule",
        "spawn": "start an agent and give it a task",
        "reservations": "list the files that sorties have reserved; release some",
        "checkpoint": "capture missions; restore, fork, verify or move them",
        "resume": "continue missions after a crash, a restore or a lost database",
        "cleanup": "remove old missions and unused files",
    },
    "Agents": {"agents": "list, start and end agents; change their types"},
    "People": {
        "user": "manage users, their roles and their permissions",
        "key": "manage machine keys, which let programs act for a user",
        "audit": "show who did what; verify that the record is unchanged",
    },
    "Processes that `fleet up` runs": {
        "prepare": "create or upgrade the tables, and create the first admin",
        "control": "the control loop",
        "node": "the supervisor of one host's agents",
    },
}
COMMANDS = {name: text for group in GROUPS.values() for name, text in group.items()}


def is_program(path: str) -> bool:
    """Whether this program is `fleet` or `python -m fleet`, whose hints have the short spelling."""
    script = Path(path)
    return script.name == PROGRAM or (script.name == "__main__.py" and script.parent.name == PROGRAM)


def long(word: str) -> str:
    """Django's name of a command: `fleet_mission` for `mission`. Other words are returned unchanged."""
    return f"{PREFIX}{word}" if word in COMMANDS else word


def short(name: str) -> str:
    """`mission` for `fleet_mission`. Other names are returned unchanged."""
    word = name.removeprefix(PREFIX)
    return word if word in COMMANDS else name


def arguments(words: Sequence[str]) -> list[str]:
    """Replace the command among the words after the program, or after `help`, by Django's name for it."""
    position = 1 if words[:1] == ["help"] else 0
    return [*words[:position], *map(long, words[position : position + 1]), *words[position + 1 :]]


def overview() -> str:
    """The list of commands that `fleet help` prints."""
    width = max(map(len, COMMANDS)) + 2
    lines = ["Fleet runs missions: graphs of tasks for AI agents and other workers.", ""]
    lines += [f"Usage: {PROGRAM} COMMAND …      Help on a command: {PROGRAM} COMMAND --help"]
    for group, commands in GROUPS.items():
        lines += ["", group, *(f"  {name:<{width}}{text}" for name, text in commands.items())]
    lines += ["", f"Django's own commands, such as `{PROGRAM} migrate`, work as well: {PROGRAM} help --commands"]
    return "\n".join(lines)
