"""`manage.py fleet_cleanup`: remove old data. Without --yes it only prints what it would remove.

Unmerged work on a repository is never removed.
"""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils import timezone

from agents.node import log_shipping, sampling
from fleet import ids, invocation
from fleet.access import tokens
from fleet.api import idempotency
from fleet.console import arguments, lines
from fleet.management.operator import OperatorCommand
from missions.artifacts import collection
from missions.engine.attempts import scratch
from missions.management import repository_cleanup
from missions.operations import cleaning
from missions.operations.workspaces import unmerged


class Command(OperatorCommand):
    help = (
        "Remove finished missions that are too old or too many, with everything that belongs to them, and old logs of "
        "ended agents; thin samples; remove incomplete artifacts, copies of repositories and mirrors that nothing uses. "
        "Missions with unmerged work are kept. A dry run unless --yes is given."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--yes", action="store_true", help="remove them")
        parser.add_argument(
            "--days",
            type=arguments.days,
            default=settings.FLEET_RETAIN_DAYS,
            help="keep missions that ended in the last DAYS days (default: FLEET_RETAIN_DAYS)",
        )
        parser.add_argument(
            "--most",
            type=arguments.count,
            default=settings.FLEET_RETAIN_MISSIONS,
            help="keep at most this many finished missions (default: FLEET_RETAIN_MISSIONS)",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def act(self, **options: Any) -> int:
        now = timezone.now()
        outdated = cleaning.outdated(now=now, days=options["days"], keep=options["most"])
        unmerged_work = unmerged.of_missions(outdated)
        kept = {work.mission for work in unmerged_work}
        outdated = [mission for mission in outdated if mission not in kept]
        removed = cleaning.remove(missions=outdated) if options["yes"] else 0
        events = cleaning.remove_events(now=now, days=options["days"]) if options["yes"] else 0
        ticks = cleaning.remove_ticks(now=now, days=options["days"]) if options["yes"] else 0
        samples = _thin(now) if options["yes"] else sampling.due(now=now)
        drafts = collection.sweep() if options["yes"] else 0
        folders = scratch.sweep() if options["yes"] else 0
        logs = log_shipping.outdated(now=now, days=options["days"])
        pieces = logs.delete()[0] if options["yes"] else logs.count()
        sessions = tokens.outdated_sessions(now=now).delete()[0] if options["yes"] else 0
        responses = idempotency.outdated(now=now).delete()[0] if options["yes"] else 0
        repositories = repository_cleanup.clean(remove=options["yes"])
        if options["json"]:
            self.show(
                {
                    "outdated": len(outdated),
                    "removed": removed,
                    "events_removed": events,
                    "ticks_removed": ticks,
                    "samples_thinned": samples if options["yes"] else 0,
                    "log_pieces_removed": pieces if options["yes"] else 0,
                    "drafts_removed": drafts,
                    "scratch_removed": folders,
                    "sessions_removed": sessions,
                    "answers_removed": responses,
                    **repositories.as_json(),
                    "unmerged": [
                        {"mission": ids.encode(ids.MISSION, work.mission), **work.as_json()} for work in unmerged_work
                    ],
                    "dry_run": not options["yes"],
                }
            )
            return 0
        if options["yes"]:
            self.say(
                f"Removed {lines.counted(removed, 'mission')}, and {lines.counted(events, 'event')} that belonged to no mission."
            )
            self.say(
                f"Thinned {lines.counted(samples, 'sample')}; removed {lines.counted(pieces, 'log piece')} of ended agents."
            )
            self.say(
                f"Removed {lines.counted(sessions, 'expired session')} and {lines.counted(responses, 'expired idempotency key')}."
            )
            if ticks:
                self.say(f"Removed {lines.counted(ticks, 'old tick')} of schedules.")
            if drafts:
                self.say(f"Removed {lines.counted(drafts, 'incomplete artifact')} of agents that were killed.")
            if folders:
                self.say(f"Removed {lines.counted(folders, 'scratch folder')} of agents that were killed.")
        else:
            self.say(f"{lines.counted(len(outdated), 'finished mission')} would be removed.")
            if samples or pieces:
                self.say(
                    f"{lines.counted(samples, 'sample')} would be thinned, "
                    f"and {lines.counted(pieces, 'log piece')} of ended agents removed."
                )
        repository_cleanup.report(self, repositories, unmerged_work)
        if not options["yes"]:
            limits = [
                word
                for name, default in (("days", settings.FLEET_RETAIN_DAYS), ("most", settings.FLEET_RETAIN_MISSIONS))
                if options[name] != default
                for word in (f"--{name}", str(options[name]))
            ]
            self.say(f"This was a dry run. To clean up: {invocation.command('fleet_cleanup', *limits, '--yes')}")
        return 0


def _thin(now: datetime) -> int:
    """Thin all samples that are due; return how many were. If a node is already thinning, leave the rest to it."""
    thinned = 0
    while batch := sampling.thin(now=now):
        thinned += batch
    return thinned
