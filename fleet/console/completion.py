"""Tab completion of `fleet` and `manage.py`, by argcomplete (docs/commands.md says how to enable it in a shell).

The shell runs the program with `_ARGCOMPLETE` and the current line, and reads the completions from a file descriptor.
They come from the parser of the command, and for an argument with a `completer` from that.
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

from fleet.console import spelling

# Django's own options, which every command has and few users need.
HIDDEN = (
    *("--version", "--settings", "--pythonpath", "--traceback", "--no-color", "--force-color", "--skip-checks"),
    *("-v", "--verbosity", "-h"),
)
# Apps for pages, without commands worth completing; loading them would take as long as loading everything else.
PAGES = ("unfold", "rest_framework", "django.contrib.admin", "django.contrib.staticfiles", "django.contrib.messages")


def complete() -> None:
    """Write the completions for the shell and end the process. Any failure is silent and completes nothing."""
    try:
        settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if not app.startswith(PAGES)]
        django.setup()
        start = int(os.environ["_ARGCOMPLETE"])
        words = split_line(os.environ["COMP_LINE"], int(os.environ["COMP_POINT"]))[3][start - 1 :]
        if len(words) > 1:
            os.environ["_ARGCOMPLETE"] = str(start + 1)  # the command's parser gets the words from its name on
            argcomplete.autocomplete(_parser(spelling.long(words[1])), always_complete_options=False, exclude=HIDDEN)
        else:
            short = spelling.is_program(words[0])
            argcomplete.autocomplete(_commands(short=short), always_complete_options=False, exclude=HIDDEN)
    except Exception:  # an error must not clutter the prompt; the command itself will report it
        os._exit(1)


def _parser(name: str) -> argparse.ArgumentParser:
    command = get_commands()[name]
    loaded = command if isinstance(command, BaseCommand) else load_command_class(command, name)
    return loaded.create_parser("manage.py", name)


def _commands(*, short: bool) -> argparse.ArgumentParser:
    """A parser that completes names of commands: the fleet's, or others if none of the fleet's matches.

    With `short`, the fleet's have their short names, unless the word already begins like a long one.
    """

    def names(prefix: str, **_: object) -> list[str]:
        if short and (words := sorted(word for word in spelling.COMMANDS if word.startswith(prefix))):
            return words
        matching = sorted(name for name in get_commands() if name.startswith(prefix))
        return [name for name in matching if name.startswith(spelling.PREFIX)] or matching

    parser = argparse.ArgumentParser()
    parser.add_argument("command").completer = names  # type: ignore[attr-defined]
    return parser
