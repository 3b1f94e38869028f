"""The argument parser of the fleet's commands: help keeps its line breaks, and errors come before the usage."""

from __future__ import annotations

import argparse
import sys
import textwrap
from typing import Any, NoReturn

from django.core.management.base import CommandParser

# Django's own options of every command. They work, but help does not show them.
DJANGO_OPTIONS: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (("-v", "--verbosity"), {"type": int, "choices": (0, 1, 2, 3), "default": 1}),
    (("--settings",), {}),
    (("--pythonpath",), {}),
    (("--traceback",), {"action": "store_true"}),
    (("--no-color",), {"action": "store_true"}),
    (("--force-color",), {"action": "store_true"}),
    (("--skip-checks",), {"action": "store_true"}),
)


class Formatter(argparse.HelpFormatter):
    """Wraps each line of a description separately. Indented lines, such as examples, are not wrapped."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(
            line if line.startswith(" ") else textwrap.fill(line, width, break_on_hyphens=False)
            for line in text.splitlines()
        )


class Parser(CommandParser):
    """Also used for the actions of a command, because argparse creates those with the class of their parent."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", Formatter)
        super().__init__(**kwargs)

    def error(self, message: str) -> NoReturn:
        sentence = f"{message[:1].upper()}{message[1:]}".rstrip(".") + "."
        if not self.called_from_command_line:
            super().error(message)  # raises CommandError
        self._print_message(f"{sentence}\n{self.format_usage()}", sys.stderr)
        sys.exit(2)


def parser(*, program: str, description: str, from_command_line: bool) -> Parser:
    """Create the parser of a command. It accepts Django's own options but does not show them in the help."""
    command_parser = Parser(
        prog=program, description=description or None, called_from_command_line=from_command_line, allow_abbrev=True
    )
    for names, settings in DJANGO_OPTIONS:
        command_parser.add_argument(*names, help=argparse.SUPPRESS, **settings)
    return command_parser
