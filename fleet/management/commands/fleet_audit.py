"""`manage.py fleet_audit list|verify|head|protect`: the audit trail."""

from __future__ import annotations

import json
import re
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Sequence
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

HEADER = ("ID", "TIME (UTC)", "KIND", "OUTCOME", "ACTOR", "ADDRESS", "SUBJECT", "CHANGE")
WIDTHS = (8, 19, 22, 7, 18, 15, 30, 0)  # fixed, because the entries are streamed
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Command(OperatorCommand):
    help = "Show who did what, and verify that no entry was removed, changed, reordered or inserted later."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        listing = actions.add_parser("list", help="show the most recent entries, newest first; times are in UTC")
        listing.add_argument("--kind", default="", help="only this kind and its subkinds: role finds role.changed")
        listing.add_argument("--actor", default="", help="only by this actor: user:ann, key:flk_…, database:postgres")
        listing.add_argument("--subject", default="", help="only about this: msn_…, user:ann, missions_sortie")
        listing.add_argument("--outcome", default="", choices=Outcome.values, help="only with this outcome")
        listing.add_argument(
            "--since", type=_since, help="only since this time (2026-01-31T10:00, in UTC) or age (90m, 24h, 7d)"
        )
        listing.add_argument("-n", "--limit", type=arguments.count, default=50, help="at most this many (default: 50)")
        listing.add_argument("--json", action="store_true", help="print one JSON object per line")
        check = actions.add_parser("verify", help="verify the chain; the exit code is 1 if anything does not match")
        check.add_argument(
            "--head",
            type=_head,
            metavar="NUMBER:DIGEST",
            help="an earlier head of the chain, which must still be in it",
        )
        check.add_argument(
            "--anchor",
            type=Path,
            metavar="FILE",
            help="a file of earlier heads, as FLEET_AUDIT_ANCHOR and `head` write them",
        )
        check.add_argument("--json", action="store_true", help="print one JSON document")
        head = actions.add_parser("head", help="print the last seal, to keep it outside the database")
        head.add_argument("--json", action="store_true", help="print one JSON document")
        actions.add_parser(
            "protect", help="print the SQL with which a superuser keeps the fleet's own role from changing the trail"
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
        connection.ensure_connection()  # needed to quote names
        self.stdout.write(protection.statement().as_string(connection.connection).rstrip())
        return 0

    def _list(self, options: dict[str, Any]) -> int:
        filters = {name: options[name] for name in ("kind", "actor", "subject", "outcome", "since")}
        width = lines.columns(self.stdout)
        number = 0
        entries = queries.entries(**filters)[: options["limit"]].iterator(chunk_size=200)
        for number, entry in enumerate(entries, start=1):
            data = queries.serialize_entry(entry)
            if options["json"]:
                self.stdout.write(json.dumps(data))
                continue
            if number == 1:
                self.stdout.write(_line(HEADER, width=width))
            change = {name: data[name] for name in ("before", "after") if data[name] is not None} | data["data"]
            outcome = "" if entry.outcome == entry.kind else entry.outcome  # not "denied denied"
            cells = (
                *(str(entry.id), f"{entry.at:%Y-%m-%d %H:%M:%S}", entry.kind, outcome, entry.actor, entry.address),
                *(entry.subject, json.dumps(change, ensure_ascii=False) if change else ""),
            )
            self.stdout.write(_line(cells, width=width))
        if not number and not options["json"]:
            self.say("No matching entries." if any(filters.values()) else "No entries.")
        return 0

    def _head(self, *, as_json: bool) -> int:
        if (seal := anchor.head()) is None:
            raise errors.Conflict("Nothing is sealed yet.", hint="Start the fleet: its control loop seals the entries.")
        if as_json:
            self.show({"number": seal.number, "digest": seal.digest, "at": seal.at.isoformat()})
        else:
            self.stdout.write(anchor.line(seal))
        return 0

    def _verify(self, *, heads: list[tuple[int, str]], as_json: bool) -> int:
        report = verification.verify(heads=heads)
        gaps = protection.gaps()
        alarm = bool(gaps) and protection.is_required()
        if as_json:
            self.show({"ok": not report.problems and not alarm, **asdict(report), "protected": not gaps, "gaps": gaps})
        else:
            for problem in report.problems:
                self.stdout.write(f"{problem.problem.upper():<9} {problem.message}")
            entries = f"{report.entries:,} {'entry' if report.entries == 1 else 'entries'}"
            seals, problems = lines.counted(report.seals, "seal"), lines.counted(len(report.problems), "problem")
            result = f"{entries} in {seals} match"
            self.stdout.write(
                f"{f'{problems} found: only {result}' if report.problems else result}; {report.waiting:,} wait to be sealed."
            )
            if report.digest != chain.START:
                self.stdout.write(f"The last seal is {report.number}:{report.digest}")
            for gap in gaps:
                before = "The trail is no longer protected" if alarm else "Only the chain protects the trail"
                self.say(f"{before}: the application's role can change it, because {gap}.")
            if gaps:
                self.say(protection.remedy())
        return 1 if report.problems or alarm else 0


def _line(cells: Sequence[str], *, width: int | None) -> str:
    columns = (lines.padded(lines.one_line(cell), to, width=width) for cell, to in zip(cells, WIDTHS, strict=True))
    return lines.fitted("  ".join(columns).rstrip(), width=width)


def _since(text: str) -> datetime:
    if match := re.fullmatch(r"(\d{1,7})([smhd])", text):
        try:
            return timezone.now() - timedelta(seconds=int(match[1]) * _UNITS[match[2]])
        except OverflowError:
            raise ArgumentTypeError(f"{text!r} is before the year 1") from None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is neither a time such as 2026-01-31T10:00 nor an age such as 24h") from None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _head(text: str) -> tuple[int, str]:
    if not (match := re.fullmatch(r"(\d{1,18}):([0-9a-f]{64})", text)):
        raise ArgumentTypeError("expected a number, a colon and 64 hexadecimal digits, as `verify` prints them")
    return int(match[1]), match[2]
