"""What the commands that start, stop and show a fleet share. They run below the database, which may not be there."""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import Error, InterfaceError, OperationalError, ProgrammingError
from psycopg.errors import UndefinedColumn, UndefinedTable

from fleet import errors
from fleet.access import caller
from fleet.console import repeating
from fleet.services import lock


def without_postgres(fault: Error) -> errors.Unavailable:
    """What to say of a database that cannot be asked."""
    why = (str(fault).strip().splitlines() or ["it closed the connection"])[0].rstrip(".")
    hint = "Start the fleet: manage.py fleet_up"
    if lock.is_held(settings.FLEET_HOME):  # the supervisor restarts what hangs or has died
        hint = "The fleet runs and sees to it; how it stands: manage.py fleet_services status"
    return errors.Unavailable(
        f"Postgres does not answer ({why}).",
        hint=hint,
        over_http="Try again in a moment. If that does not help, tell an operator.",
    )


def _somebody() -> str:
    """Who types, as the host calls them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


class OperatorCommand(BaseCommand):
    """Data on stdout, all else on stderr; a FleetError becomes its message and its exit code. manage.py sees to Ctrl-C,
    to closed pipes and to full disks."""

    requires_system_checks = []
    by_itself = False  # it works for the fleet and not for who started it, who is not named in the audit trail then

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            who = caller.SYSTEM if self.by_itself else caller.Caller(name=f"command:{_somebody()}")
            with caller.acting(who):
                code = self.act(**options)
        except errors.FleetError as fault:
            raise CommandError(str(fault), returncode=fault.exit_code) from fault
        except ProgrammingError as fault:
            if not isinstance(fault.__cause__, UndefinedTable | UndefinedColumn):
                raise
            raise CommandError(
                "The database was made for another version of the code. Restart the fleet, which migrates it: "
                "manage.py fleet_down, then manage.py fleet_up"
            ) from fault
        except (OperationalError, InterfaceError) as fault:
            raise CommandError(str(without_postgres(fault))) from fault
        except UnicodeEncodeError as fault:
            if fault.reason != "surrogates not allowed":
                raise
            # Python reads bytes that are no UTF-8 as halves of characters. They are not told again: it may be a password.
            raise CommandError(
                "What was given, as an argument or through a pipe, is not UTF-8.", returncode=2
            ) from fault
        if code:
            sys.exit(code)

    def act(self, **options: Any) -> int:
        """Do it; the exit code."""
        raise NotImplementedError

    def say(self, line: str) -> None:
        """One step, for whoever watches."""
        self.stderr.write(line, self.style.NOTICE if line.endswith("!") else lambda text: text)

    def show(self, data: object, *, one_line: bool = False) -> None:
        """One JSON document, for a program."""
        self.stdout.write(json.dumps(data, indent=None if one_line else 2))

    def again(self, show: Callable[[], int], *, every_s: float | None) -> int:
        """`show` once, or with `--watch` every so many seconds until Ctrl-C."""
        return show() if every_s is None else repeating.repeat(show=show, out=self.stdout, every_s=every_s)
