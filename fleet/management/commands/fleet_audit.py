"""`manage.py fleet_audit list|verify|head|protect`: the audit trail."""

from __future__ import annotations

import json
import re
from argparse import ArgumentParser, ArgumentTypeError
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.db import connection
from django.utils import timezone

from fleet import errors
from fleet.audit import anchor, chain, protection, queries, verification
from fleet.audit.models import Outcome
from fleet.console import arguments, lines
from fleet.management.operator import OperatorCommand

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Command(OperatorCommand):
    help = "Show who did what, and prove that nothing of it was removed, changed, reordered or put in afterwards."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        listing = actions.add_parser("list", help="the last entries, the newest first; times are in UTC")
        listing.add_argument("--kind", default="", help="of this kind, or below it: role finds role.changed")
        listing.add_argument("--actor", default="", help="by this one: user:ann, key:flk_…, database:postgres")
        listing.add_argument("--subject", default="", help="about this: msn_…, user:ann, missions_sortie")
        listing.add_argument("--outcome", default="", choices=Outcome.values, help="that ended so")
        listing.add_argument("--since", type=_since, help="from then on: 2026-01-31T10:00 (UTC), or 90m, 24h, 7d ago")
        listing.add_argument("-n", "--limit", type=arguments.count, default=50, help="at most so many (50)")
        listing.add_argument("--json", action="store_true", help="one JSON object a line")
        check = actions.add_parser("verify", help="go along the chain; 1 where something does not agree")
        check.add_argument(
            "--head",
            type=_head,
            metavar="NUMBER:DIGEST",
            help="a seal as `verify` told it earlier; it must be there still",
        )
        check.add_argument(
            "--anchor",
            type=Path,
            metavar="FILE",
            help="a file of such heads, as FLEET_AUDIT_ANCHOR and `head` write them",
        )
        check.add_argument("--json", action="store_true", help="one JSON document on standard output")
        head = actions.add_parser("head", help="print the last seal, to be kept outside the database")
        head.add_argument("--json", action="store_true", help="one JSON document on standard output")
        actions.add_parser(
            "protect", help="print the SQL with which a superuser takes the trail out of the fleet's hands"
        )

    def act(self, **options: Any) -> int:
        match options["action"]:
            case "list":
                return self._list(options)
            case "verify":
                heads = [options["head"]] if options["head"] else []
                heads += anchor.read(options["anchor"]) if options["anchor"] else []
                return self._verify(heads=heads, as_json=options["json"])
            case "head":
                return self._head(as_json=options["json"])
        connection.ensure_connection()  # which says how names are quoted
        self.stdout.write(protection.statement().as_string(connection.connection).rstrip())
        return 0

    def _list(self, options: dict[str, Any]) -> int:
        chosen = {name: options[name] for name in ("kind", "actor", "subject", "outcome", "since")}
        width = lines.columns(self.stdout)
        entry = None
        for entry in queries.entries(**chosen)[: options["limit"]].iterator(chunk_size=200):
            told = queries.described(entry)
            if options["json"]:
                self.stdout.write(json.dumps(told))
                continue
            change = {name: told[name] for name in ("before", "after") if told[name] is not None} | told["data"]
            said = (
                f"{entry.id} {entry.at:%Y-%m-%d %H:%M:%S} {entry.outcome} {entry.kind} {entry.actor} "
                f"{entry.address} {entry.subject} {json.dumps(change, ensure_ascii=False) if change else ''}"
            )
            self.stdout.write(lines.fitted(lines.one(said), width=width))
        if entry is None and not options["json"]:
            self.say("No such entries." if any(chosen.values()) else "No entries.")
        return 0

    def _head(self, *, as_json: bool) -> int:
        if (seal := anchor.head()) is None:
            raise errors.Conflict("Nothing is sealed yet.", hint="Start the fleet: its control loop seals.")
        if as_json:
            self.show({"number": seal.number, "digest": seal.digest, "at": seal.at.isoformat()})
        else:
            self.stdout.write(anchor.line(seal))
        return 0

    def _verify(self, *, heads: list[tuple[int, str]], as_json: bool) -> int:
        report = verification.verify(heads=heads)
        gaps = protection.gaps()
        alarm = bool(gaps) and protection.expected()
        if as_json:
            self.show({"ok": not report.faults and not alarm, **asdict(report), "protected": not gaps, "gaps": gaps})
        else:
            for fault in report.faults:
                self.stdout.write(f"{fault.what.upper():<9} {fault.said}")
            agree = f"{report.entries:,} {'entry' if report.entries == 1 else 'entries'}"
            seals, faults = lines.counted(report.seals, "seal"), lines.counted(len(report.faults), "fault")
            begins = f"{faults} found: only {agree} in {seals} agree" if report.faults else f"{agree} in {seals} agree"
            self.stdout.write(f"{begins}; {report.waiting:,} wait to be sealed.")
            if report.digest != chain.START:
                self.stdout.write(f"The last seal is {report.number}:{report.digest}")
            for gap in gaps:
                before = "The trail is no longer protected" if alarm else "Only the chain protects the trail"
                self.say(f"{before}: the application's role can change it, for {gap}.")
            if gaps:
                self.say(protection.remedy())
        return 1 if report.faults or alarm else 0


def _since(text: str) -> datetime:
    if found := re.fullmatch(r"(\d{1,7})([smhd])", text):
        try:
            return timezone.now() - timedelta(seconds=int(found[1]) * _UNITS[found[2]])
        except OverflowError:
            raise ArgumentTypeError(f"{text!r} is before the year 1") from None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is neither a time, as 2026-01-31T10:00, nor an age, as 24h") from None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _head(text: str) -> tuple[int, str]:
    if not (found := re.fullmatch(r"(\d{1,18}):([0-9a-f]{64})", text)):
        raise ArgumentTypeError("it is a number, a colon and 64 hexadecimal digits, as `verify` tells it")
    return int(found[1]), found[2]
