"""The base class of the fleet's commands. Without a database they still work, or say what to do."""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import ProgrammingError
from psycopg.errors import UndefinedColumn, UndefinedTable

from fleet import caller, errors
from fleet.console import invocation, lines, parsing, repeating
from fleet.postgres import retries
from fleet.services import outages


def _user() -> str:
    """The name of the operating system's user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


class OperatorCommand(BaseCommand):
    """Writes data to stdout and the rest to stderr. A FleetError ends the command with its message and exit code.

    manage.py handles Ctrl-C, closed pipes and full disks.
    """

    requires_system_checks = []
    base_stealth_options = (*BaseCommand.base_stealth_options, *parsing.DJANGO_OPTIONS)  # only for `call_command`
    acts_as_system = False  # the audit trail does not name the user who started it

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> parsing.Parser:
        parser = parsing.parser(
            program=invocation.command(subcommand),
            description=self.help,
            from_command_line=bool(getattr(self, "_called_from_command_line", False)),
        )
        parser.epilog = self.epilog() or None
        self.add_arguments(parser)
        return parser

    def epilog(self) -> str:
        """Return the examples and exit codes that the help shows at its end."""
        return ""

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Like Django's, but an error is printed without the name of Django's exception."""
        try:
            return super().execute(*args, **options)
        except CommandError as error:
            if options.get("traceback") or not getattr(self, "_called_from_command_line", False):
                raise
            self.stderr.write(str(error))
            sys.exit(error.returncode)

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout, self.stderr = lines.SafeOutput.of(self.stdout), lines.SafeOutput.of(self.stderr)
        try:
            acting_caller = caller.SYSTEM if self.acts_as_system else caller.Caller(name=f"command:{_user()}")
            with caller.acting_as(acting_caller):
                code = self.act(**options)
        except errors.FleetError as error:
            raise CommandError(str(error), returncode=error.exit_code) from error
        except ProgrammingError as error:
            if not isinstance(error.__cause__, UndefinedTable | UndefinedColumn):
                raise
            restart = f"{invocation.command('fleet_down')} && {invocation.command('fleet_up', '--detach')}"
            raise CommandError(
                f"The database has the tables of another version. Restart the fleet to migrate it: {restart}"
            ) from error
        except retries.TRANSIENT as error:
            raise CommandError(str(outages.postgres_unavailable(error))) from error
        except UnicodeEncodeError as error:
            if error.reason != "surrogates not allowed":
                raise
            # Python reads bytes that are not UTF-8 as unpaired surrogates. Do not repeat them: it may be a password.
            raise CommandError("An argument or the standard input is not valid UTF-8.", returncode=2) from error
        if code:
            sys.exit(code)

    def act(self, **options: Any) -> int:
        """Run the command and return its exit code."""
        raise NotImplementedError

    def say(self, line: str) -> None:
        """Print a line for people, on stderr, after what was printed on stdout before it, even if that is a pipe."""
        with suppress(OSError, ValueError):  # reported when the command ends
            self.stdout.flush()
        self.stderr.write(line, self.style.NOTICE if line.endswith("!") else lambda text: text)

    def show(self, data: object, *, one_line: bool = False) -> None:
        """Print one JSON document, for programs, on stdout."""
        self.stdout.write(json.dumps(data, indent=None if one_line else 2))

    def show_repeatedly(self, show: Callable[[], int], *, every_s: float | None) -> int:
        """Run `show` once; with `--watch`, every `every_s` seconds until Ctrl-C."""
        return show() if every_s is None else repeating.repeat(show=show, out=self.stdout, every_s=every_s)
