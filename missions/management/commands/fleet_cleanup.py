"""`manage.py fleet_cleanup`: thin what has ended. Without --yes it only says what it would do."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.utils import timezone

from fleet.console import arguments
from fleet.management.operator import OperatorCommand
from missions.operations import cleaning


class Command(OperatorCommand):
    help = "Remove finished missions that are too old or too many, with all of theirs. A dry run unless --yes is given."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--yes", action="store_true", help="do it")
        parser.add_argument(
            "--days", type=arguments.days, default=settings.FLEET_RETAIN_DAYS, help="keep what is younger"
        )
        parser.add_argument(
            "--most", type=arguments.count, default=settings.FLEET_RETAIN_MISSIONS, help="keep at most so many"
        )
        parser.add_argument("--json", action="store_true", help="one JSON document on standard output")

    def act(self, **options: Any) -> int:
        now = timezone.now()
        chosen = cleaning.outdated(now=now, days=options["days"], most=options["most"])
        removed = cleaning.remove(missions=chosen) if options["yes"] else 0
        events = cleaning.remove_events(now=now, days=options["days"]) if options["yes"] else 0
        if options["json"]:
            self.show(
                {"outdated": len(chosen), "removed": removed, "events_removed": events, "dry_run": not options["yes"]}
            )
        elif options["yes"]:
            self.say(f"Removed {removed} missions and {events} events of no mission.")
        else:
            self.say(f"{len(chosen)} finished missions would be removed." + (" Do it with --yes." if chosen else ""))
        return 0
