"""The parser of the fleet's commands: help keeps its line breaks, and an error begins with what is wrong."""

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
    """Wraps each line of a description by itself. An indented line, such as an example, stays whole."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(
            line if line.startswith(" ") else textwrap.fill(line, width, break_on_hyphens=False)
            for line in text.splitlines()
        )


class Parser(CommandParser):
    """Also of a command's actions: argparse gives them the class of their parent."""

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
    """A command's parser, with Django's own options, but hidden."""
    made = Parser(
        prog=program, description=description or None, called_from_command_line=from_command_line, allow_abbrev=True
    )
    for names, settings in DJANGO_OPTIONS:
        made.add_argument(*names, help=argparse.SUPPRESS, **settings)
    return made
