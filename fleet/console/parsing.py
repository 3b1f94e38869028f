"""The argument parser of the fleet's commands: help keeps its line breaks, and errors come before the usage."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, NoReturn

from django.core.management.base import CommandParser

# Django's own options of every command. The command line refuses them. Django reads the values, and `call_command` may
# pass others.
DJANGO_OPTIONS: dict[str, Any] = {
    "verbosity": 1,
    "settings": None,
    "pythonpath": None,
    "traceback": False,
    "no_color": False,
    "force_color": False,
    "skip_checks": False,
}


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

    def parse_args(  # type: ignore[override]  # only the namespace's type differs
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Like argparse's, but the usage in an error about unknown arguments is that of the action."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self._action_parser(options).error(f"unrecognized arguments: {' '.join(unknown)}")
        return options

    def _action_parser(self, options: argparse.Namespace) -> argparse.ArgumentParser:
        """The parser of the action that was parsed, at any depth; this parser if the command has no actions."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction) and (name := getattr(options, action.dest, None)):
                parser = action.choices[name]
                return parser._action_parser(options) if isinstance(parser, Parser) else parser
        return self

    def error(self, message: str) -> NoReturn:
        sentence = f"{message[:1].upper()}{message[1:]}".rstrip(".") + "."
        if not self.called_from_command_line:
            super().error(message)  # raises CommandError
        self._print_message(f"{sentence}\n{self.format_usage()}", sys.stderr)
        sys.exit(2)


def parser(*, program: str, description: str, from_command_line: bool) -> Parser:
    """Create the parser of a command, without Django's own options."""
    command_parser = Parser(
        prog=program, description=description or None, called_from_command_line=from_command_line, allow_abbrev=True
    )
    command_parser.set_defaults(**DJANGO_OPTIONS)
    return command_parser
