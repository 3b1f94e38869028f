"""`manage.py fleet_cleanup`: remove old data. Without --yes it only prints what it would remove.

Unmerged work on a repository is never removed.
"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.utils import timezone

from fleet import ids
from fleet.console import arguments, invocation
from fleet.management.operator import OperatorCommand
from missions.management import old_data, repository_cleanup
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
        now, remove = timezone.now(), options["yes"]
        outdated = cleaning.outdated(now=now, days=options["days"], keep=options["most"])
        unmerged_work = unmerged.of_missions(outdated)
        unmerged_missions = {work.mission for work in unmerged_work}
        removable = [mission for mission in outdated if mission not in unmerged_missions]
        kinds = old_data.kinds(now=now, days=options["days"], missions=removable)
        counts = {kind.key: kind.remove() if remove else kind.count() for kind in kinds}
        repositories = repository_cleanup.clean(remove=remove)
        if options["json"]:
            self.show(
                {
                    "dry_run": not remove,
                    **counts,
                    **repositories.as_json(),
                    "unmerged": [
                        {"mission": ids.encode(ids.MISSION, work.mission), **work.as_json()} for work in unmerged_work
                    ],
                }
            )
            return 0
        verb = "Removed" if remove else "Would remove"
        summary = [kind.counted(counts[kind.key]) for kind in kinds if counts[kind.key]] + repositories.counted()
        for text in summary:
            self.say(f"{verb} {text}.")
        if not summary:
            self.say("There was nothing to remove." if remove else "There is nothing to remove.")
        repository_cleanup.report_kept(self, repositories, unmerged_work)
        if summary and not remove:
            limits = [
                word
                for name, default in (("days", settings.FLEET_RETAIN_DAYS), ("most", settings.FLEET_RETAIN_MISSIONS))
                if options[name] != default
                for word in (f"--{name}", str(options[name]))
            ]
            self.say(f"This was a dry run. To clean up: {invocation.command('fleet_cleanup', *limits, '--yes')}")
        return 0
