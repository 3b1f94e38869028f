"""Formats commands for hints, so that the user can paste them into the current shell; and starts commands."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

from django.conf import settings

from fleet.config import home
from fleet.console import spelling

IN_THE_CHECKOUT = "./manage.py"  # finds .venv
MODULE = Path(__file__).parents[1] / "__main__.py"


def command(*words: str) -> str:
    """Format a command as the user typed the current one: `fleet mission list` or `./manage.py fleet_mission list`.

    If no user typed a command (a service, the site, a stored alert), the prefix is `default_prefix()`.
    """
    typed, (name, *rest) = prefix(), words
    short = spelling.is_program(shlex.split(typed)[-1])
    return f"{typed} {shlex.join([spelling.short(name) if short else name, *rest])}"


def respell(text: str) -> str:
    """Spell the commands in a text that a service stored as `command` does for the current user."""
    return re.sub(rf"{re.escape(IN_THE_CHECKOUT)} (\w+)", lambda match: command(match[1]), text)


def prefix() -> str:
    """Return what the user typed before the name of the current command."""
    script = sys.argv[0]
    if not _is_command_line(script):
        return default_prefix()
    if settings.FLEET_COMMAND:
        return str(settings.FLEET_COMMAND)
    if os.path.basename(script) == MODULE.name:
        return shlex.join([_relative(sys.orig_argv[0]), "-m", spelling.PROGRAM])
    if os.access(script, os.X_OK) and os.sep in script:
        name = os.path.basename(script)
        return name if shutil.which(name) == script else shlex.quote(_relative(script))
    return shlex.join([_relative(sys.orig_argv[0]), script])


def default_prefix() -> str:
    """Return the prefix for readers who typed no command. In a checkout, it works in the checkout's folder."""
    return IN_THE_CHECKOUT if home.is_checkout(settings.BASE_DIR) else spelling.PROGRAM


def environment() -> dict[str, str]:
    """Return the environment for a command that runs on behalf of this one: on the same fleet, with the same hints."""
    return {**os.environ, "FLEET_HOME": str(settings.FLEET_HOME.root), "FLEET_COMMAND": prefix()}


def program(*arguments: str) -> tuple[str, ...]:
    """Return the argv that runs a command of this installation, in any folder."""
    return (sys.executable, "-P", str(MODULE), *arguments)


def _is_command_line(script: str) -> bool:
    """Whether this process runs a command: with manage.py or a link to it, `fleet`, or `python -m fleet`."""
    path = os.path.realpath(script)
    return os.path.basename(script) == spelling.PROGRAM or path in {
        os.path.realpath(Path(settings.BASE_DIR) / "manage.py"),
        os.path.realpath(MODULE),
    }


def _relative(path: str) -> str:
    """Make a path below the current folder relative to it."""
    try:
        relative = os.path.relpath(path)
    except OSError:  # the folder is gone
        return path
    if not os.path.isabs(path) or relative.startswith(os.pardir):
        return path
    return relative if os.sep in relative else os.path.join(os.curdir, relative)
