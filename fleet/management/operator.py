"""What the commands that start, stop and show a fleet share. They run below the database, which may not be there."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from fleet import errors


class OperatorCommand(BaseCommand):
    """Data on stdout, all else on stderr; a FleetError becomes its message and its exit code."""

    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            code = self.act(**options)
        except errors.FleetError as fault:
            raise CommandError(str(fault), returncode=fault.exit_code) from fault
        except KeyboardInterrupt:
            sys.exit(130)
        if code:
            sys.exit(code)

    def act(self, **options: Any) -> int:
        """Do it; the exit code."""
        raise NotImplementedError

    def say(self, line: str) -> None:
        """One step, for whoever watches."""
        self.stderr.write(line, self.style.NOTICE if line.endswith("!") else lambda text: text)

    def show(self, data: object) -> None:
        """One JSON document, for a program."""
        self.stdout.write(json.dumps(data, indent=2))
