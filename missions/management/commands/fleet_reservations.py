"""`manage.py fleet_reservations list|release`: the files that sorties have reserved."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from fleet import ids
from fleet.console import lines
from fleet.management.operator import OperatorCommand
from missions.management import completion
from missions.models import Mission
from missions.operations import reserving
from missions.queries import mission_lookup, reservations


class Command(OperatorCommand):
    help = "List the files that sorties have reserved, and release some."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        listing = actions.add_parser("list", help="list reservations, of all missions or of one")
        completion.complete(listing.add_argument("mission", nargs="?", metavar="MISSION"), by=completion.missions)
        listing.add_argument("--all", action="store_true", help="include those that have ended or been released")
        release = actions.add_parser("release", help="release reservations, even if their sorties are still running")
        release.add_argument("reservations", nargs="+", metavar="RESERVATION", help="an id from the list")
        for action in (listing, release):
            action.add_argument("--json", action="store_true", help="print one JSON document")

    def act(self, **options: Any) -> int:
        if options["action"] == "release":
            released = [
                reserving.release(reservation=ids.decode(ids.RESERVATION, ref)) for ref in options["reservations"]
            ]
            if options["json"]:
                self.show(list(reservations.as_json(released)))
                return 0
            for reservation in released:
                pattern, key = lines.one_line(reservation.pattern), lines.one_line(reservation.sortie.key)
                self.stdout.write(f"Released {pattern} of {key}.")
            return 0
        missions = Mission.objects.all()
        if options["mission"]:
            missions = missions.filter(id=mission_lookup.find(options["mission"]).id)
        rows = list(reservations.as_json(reservations.rows(missions=missions, ended=options["all"])))
        if options["json"]:
            self.show(rows)
            return 0
        if not rows:
            self.say("No files are reserved.")
            return 0
        header = ("ID", "STATE", "MODE", "FILES", "UNTIL (UTC)", "SORTIE")
        for line in lines.table(header, [_cells(row) for row in rows], width=lines.columns(self.stdout)):
            self.stdout.write(line)
        return 0


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    mode, until = "reads" if row["shared"] else "touches", row["until"][11:19] if row["until"] else "–"
    return row["id"], row["state"], mode, row["pattern"], until, row["key"]
