"""`manage.py fleet_cleanup`: thin what has ended. Without --yes it only says what it would do."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils import timezone

from agents.node import log_shipping, sampling
from fleet.access import tokens
from fleet.api import idempotency
from fleet.console import arguments
from fleet.management.operator import OperatorCommand
from missions.artifacts import collection
from missions.engine import scratch
from missions.operations import cleaning


class Command(OperatorCommand):
    help = (
        "Remove finished missions that are too old or too many, with all of theirs, and the logs of agents that ended long "
        "ago; thin samples; remove artifacts that were never stored whole. A dry run unless --yes is given."
    )

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
        samples = _thin(now) if options["yes"] else sampling.due(now=now)
        drafts = collection.sweep() if options["yes"] else 0
        folders = scratch.sweep() if options["yes"] else 0
        printed = log_shipping.outdated(now=now, days=options["days"])
        pieces = printed.delete()[0] if options["yes"] else printed.count()
        sessions = tokens.outdated_sessions(now=now).delete()[0] if options["yes"] else 0
        answers = idempotency.outdated(now=now).delete()[0] if options["yes"] else 0
        if options["json"]:
            self.show(
                {
                    "outdated": len(chosen),
                    "removed": removed,
                    "events_removed": events,
                    "samples_thinned": samples if options["yes"] else 0,
                    "log_pieces_removed": pieces if options["yes"] else 0,
                    "drafts_removed": drafts,
                    "scratch_removed": folders,
                    "sessions_removed": sessions,
                    "answers_removed": answers,
                    "dry_run": not options["yes"],
                }
            )
        elif options["yes"]:
            self.say(f"Removed {removed} missions and {events} events of no mission.")
            self.say(f"Thinned {samples} samples and removed {pieces} pieces of the logs of agents that have ended.")
            self.say(
                f"Removed {sessions} sessions that are long over and {answers} answers that nobody asks for again."
            )
            if drafts:
                self.say(f"Removed {drafts} artifacts that were never stored whole, because their agents were killed.")
            if folders:
                self.say(f"Removed {folders} scratch folders of attempts whose agents were killed.")
        else:
            self.say(f"{len(chosen)} finished missions would be removed." + (" Do it with --yes." if chosen else ""))
            if samples or pieces:
                self.say(
                    f"{samples} samples would be thinned, and {pieces} pieces of the logs of agents that have ended removed."
                )
        return 0


def _thin(now: datetime) -> int:
    """How many samples were thinned. (Nodes do it too; where one is at it just now, the rest is left to it.)"""
    thinned = 0
    while some := sampling.thin(now=now):
        thinned += some
    return thinned
