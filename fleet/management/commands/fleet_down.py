"""`manage.py fleet_down`: stops the fleet of this checkout and waits until it has ended."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings

from fleet.management.operator import OperatorCommand
from fleet.services import detached


class Command(OperatorCommand):
    help = "Stop the fleet that is running here and wait until all of its processes have ended. Its data is kept."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def act(self, **options: Any) -> int:
        stopped = detached.stop(settings.FLEET_HOME, say=self.say)
        self.say("The fleet is stopped." if stopped else "No fleet was running here.")
        if options["json"]:
            self.show({"stopped": stopped})
        return 0
