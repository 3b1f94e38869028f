"""Tab completion of `manage.py`, by argcomplete (docs/commands.md says how a shell is told).

The shell runs manage.py with `_ARGCOMPLETE` and the line as it stands, and reads what could come next from a file
descriptor. Each command's own parser answers; the values of an argument that has a `completer` are asked of that.
"""

from __future__ import annotations

import argparse
import os

import argcomplete
import django
from argcomplete.lexers import split_line
from django.conf import settings
from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand

# Django's own options of every command: rarely wanted, and always in the way.
HIDDEN = (
    *("--version", "--settings", "--pythonpath", "--traceback", "--no-color", "--force-color", "--skip-checks"),
    *("-v", "--verbosity", "-h"),
)
# Apps that show pages and have no command that matters here; loading them would take as long as all the rest.
PAGES = ("unfold", "rest_framework", "django.contrib.admin", "django.contrib.staticfiles", "django.contrib.messages")


def complete() -> None:
    """Answer the shell and end the process. Quietly: whatever goes wrong, nothing is offered."""
    try:
        settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if not app.startswith(PAGES)]
        django.setup()
        start = int(os.environ["_ARGCOMPLETE"])
        words = split_line(os.environ["COMP_LINE"], int(os.environ["COMP_POINT"]))[3][start - 1 :]
        if len(words) > 1:
            os.environ["_ARGCOMPLETE"] = str(start + 1)  # the command's parser sees the words from its name on
            argcomplete.autocomplete(_parser(words[1]), always_complete_options=False, exclude=HIDDEN)
        else:
            argcomplete.autocomplete(_commands(), always_complete_options=False, exclude=HIDDEN)
    except Exception:  # a shell's prompt is no place for errors; the command itself will tell them
        os._exit(1)


def _parser(name: str) -> argparse.ArgumentParser:
    command = get_commands()[name]
    loaded = command if isinstance(command, BaseCommand) else load_command_class(command, name)
    return loaded.create_parser("manage.py", name)


def _commands() -> argparse.ArgumentParser:
    """The names of commands: the fleet's, and others only where none of the fleet's begins so."""

    def names(prefix: str, **_: object) -> list[str]:
        fitting = sorted(name for name in get_commands() if name.startswith(prefix))
        return [name for name in fitting if name.startswith("fleet_")] or fitting

    parser = argparse.ArgumentParser()
    parser.add_argument("command").completer = names  # type: ignore[attr-defined]
    return parser
