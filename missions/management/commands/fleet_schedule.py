"""`manage.py fleet_schedule create|change|list|show|preview|pause|resume|run|delete`: missions on a cron schedule."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from fleet import humanise
from fleet.console import arguments, invocation, lines
from fleet.management.operator import OperatorCommand
from missions import cron
from missions.management import completion, plan_arguments
from missions.models import CatchUp, Overlap, Schedule
from missions.operations import plan_reading
from missions.operations import schedules as operations
from missions.queries import schedules

OPTIONS = ("name", "cron", "timezone", "overlap", "catch_up", "deadline_s", "template", "folder")


class Command(OperatorCommand):
    help = "Launch missions on a cron schedule."

    def epilog(self) -> str:
        examples = (
            invocation.command(
                "fleet_schedule",
                "create",
                "nightly",
                "plan.yaml",
                "--cron",
                "30 2 * * *",
                "--timezone",
                "Europe/Berlin",
            ),
            invocation.command("fleet_schedule", "preview", "30 2 * * 1-5", "--timezone", "America/New_York"),
            invocation.command("fleet_schedule", "show", "nightly"),
        )
        return "\n".join(("examples:", *(f"  {example}" for example in examples)))

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

        def action(name: str, text: str) -> ArgumentParser:
            parser: ArgumentParser = actions.add_parser(name, help=text, description=f"{text[:1].upper()}{text[1:]}.")
            parser.add_argument("--json", action="store_true", help="print one JSON document")
            return parser

        create = action("create", "create a schedule, and check it as if it were launched now")
        create.add_argument("name", help="a name of your choice")
        create.add_argument("plan", nargs="?", help="a YAML or JSON file, or - for standard input")
        change = action("change", "change a schedule; a new expression or zone applies from now on")
        listing = action("list", "list the schedules")
        show = action("show", "show a schedule, its next times and its last ticks")
        preview = action("preview", "list the next times of an expression")
        pause = action("pause", "pause a schedule: nothing is launched until it is resumed")
        resume = action("resume", "resume a schedule; times missed during the pause are not caught up")
        run = action("run", "launch a schedule now; its next scheduled time does not change")
        delete = action("delete", "delete a schedule; its missions stay")
        for parser_ in (change, show, pause, resume, run, delete):
            schedule = parser_.add_argument("schedule", help="its name or id")
            completion.complete(schedule, by=completion.schedules)
        for parser_ in (create, change):
            _add_settings(parser_, required=parser_ is create)
        create.add_argument(
            "--owner", metavar="USER", help="run it with the permissions of this user, not the operator's"
        )
        create.add_argument("--paused", action="store_true", help="create it paused")
        change.add_argument("--name", help="a new name")
        change.add_argument("--plan", help="launch this plan from now on: a file, or - for standard input")
        listing.add_argument("--owner", metavar="USER", help="only those of this user")
        show.add_argument(
            "-n", "--number", type=arguments.count, default=10, help="how many ticks to show (default: 10)"
        )
        preview.add_argument("cron", help="five fields, or an alias such as @daily")
        preview.add_argument("--timezone", default="UTC", help="(default: UTC)")
        preview.add_argument(
            "-n", "--number", type=arguments.count, default=schedules.UPCOMING, help="how many times (default: 5)"
        )
        pause.add_argument("--reason", default="", help="recorded with the schedule")

    def act(self, **options: Any) -> int:
        try:
            return self._act(options)
        finally:
            plan_reading.reader.stop()

    def _act(self, options: dict[str, Any]) -> int:
        match options["action"]:
            case "create":
                return self._report_change(self._create(options), options, "Created")
            case "list":
                return self._list(options)
            case "preview":
                return self._preview(options)
        row = schedules.find(options["schedule"])
        match options["action"]:
            case "change":
                changes = _settings(options)
                if not changes:
                    self.say("Nothing to change: name at least one setting.")
                    return 2
                row = operations.change(schedule=row.id, can_execute=True, operator=True, changes=changes)
                return self._report_change(row, options, "Changed")
            case "pause":
                row = operations.pause(schedule=row.id, reason=options["reason"])
                return self._report_change(row, options, "Paused")
            case "resume":
                return self._report_change(operations.resume(schedule=row.id, can_execute=True), options, "Resumed")
            case "run":
                return self._run(row, options)
            case "delete":
                operations.delete(schedule=row.id)
                if options["json"]:
                    self.show({"id": row.ref, "deleted": True})
                else:
                    self.say(f"Deleted {lines.one_line(row.name)}. Its missions stay.")
                return 0
        return self._show(row, options)

    def _create(self, options: dict[str, Any]) -> Schedule:
        owner = schedules.owner(options["owner"]) if options["owner"] else None
        return operations.create(
            owner=owner,
            operator=owner is None,
            paused=options["paused"],
            **{
                "timezone": "UTC",
                "params": {},
                "folder": "" if owner else plan_arguments.current_folder(),
                **_settings(options),
            },
        )

    def _report_change(self, row: Schedule, options: dict[str, Any], verb: str) -> int:
        if options["json"]:
            self.show(schedules.detail(row))
        else:
            status = _next(row)
            if verb == "Paused":
                status = f"Reason: {lines.one_line(row.reason)}" if row.reason else ""
            self.say(f"{verb} {lines.one_line(row.name)} ({row.ref}). {status}".rstrip())
        return 0

    def _run(self, row: Schedule, options: dict[str, Any]) -> int:
        tick = operations.run_now(schedule=row.id, can_execute=True)
        if options["json"]:
            self.show(schedules.tick_as_json(tick))
        elif tick.mission is None:
            self.say(f"Waiting: {tick.reason}")
        else:
            self.say(f"{tick.mission.ref}: {lines.one_line(tick.mission.name)}")
            self.say(f"Watch it: {invocation.command('fleet_mission', 'watch', tick.mission.ref)}")
        return 0

    def _list(self, options: dict[str, Any]) -> int:
        rows = schedules.rows()
        if options["owner"]:
            rows = rows.filter(owner=schedules.owner(options["owner"]))
        summaries = schedules.as_json(list(rows))
        if options["json"]:
            self.show(summaries)
            return 0
        if not summaries:
            self.say("There are no schedules.")
            return 0
        cells = [
            (
                row["id"],
                row["name"],
                row["cron"],
                row["timezone"],
                "paused" if row["paused"] else _local_time(row["next_at"], row["timezone"]),
                row["owner"] or "operator",
                row["last"]["outcome"] if row["last"] else "none",
            )
            for row in summaries
        ]
        header = ("ID", "NAME", "CRON", "TIMEZONE", "NEXT", "OWNER", "LAST TICK")
        for line in lines.table(header, cells, width=lines.columns(self.stdout)):
            self.stdout.write(line)
        return 0

    def _show(self, row: Schedule, options: dict[str, Any]) -> int:
        ticks = [*map(schedules.tick_as_json, schedules.ticks(row)[: options["number"]])]
        detail = schedules.detail(row)
        if options["json"]:
            self.show({**detail, "ticks": ticks})
            return 0
        write = self.stdout.write
        write(f"{lines.one_line(row.name)}  {row.ref}")
        write(f"  {row.cron} in {row.timezone}: {cron.explanation(row.cron)}")
        if row.paused or not detail["upcoming"]:
            write(f"  {_next(row)}")
        owner = detail["owner"] or ("the host's operator" if row.operator else "a deleted user")
        write(f"  owned by {lines.one_line(owner)}")
        deadline = f", deadline {humanise.duration(row.deadline_s)}" if row.deadline_s else ""
        write(f"  overlap {row.overlap}, catch-up {row.catch_up}{deadline}")
        write(f"  {row.runs:,} launched, {row.skips:,} skipped or missed, {row.failures:,} failed")
        for at in detail["upcoming"]:
            write(f"  next  {_local_time(at, row.timezone)}")
        for tick in ticks:
            missed = f", {tick['missed']:,} missed before it" if tick["missed"] else ""
            mission = f"  {tick['mission']}" if tick["mission"] else ""
            reason = f"  {lines.one_line(tick['reason'])}" if tick["reason"] else ""
            write(f"  {_local_time(tick['at'], row.timezone)}  {tick['outcome']}{missed}{mission}{reason}")
        return 0

    def _preview(self, options: dict[str, Any]) -> int:
        preview = schedules.preview(cron_text=options["cron"], timezone=options["timezone"], number=options["number"])
        if options["json"]:
            self.show(preview)
            return 0
        self.say(f"{preview['explanation']}, in {preview['timezone']}:")
        for at in preview["times"]:
            self.stdout.write(at)
        return 0


def _add_settings(parser: ArgumentParser, *, required: bool) -> None:
    parser.add_argument("--cron", required=required, help="five fields, or an alias such as @daily")
    parser.add_argument("--timezone", help="such as Europe/Berlin (default: UTC)")
    parser.add_argument("--template", metavar="NAME", help="launch this template, as it is at each launch")
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an input of the plan; may contain {{ schedule.at }}, {{ schedule.date }} or {{ schedule.name }}",
    )
    parser.add_argument(
        "--folder", help="the folder that relative paths start from (default: the current folder; with --owner: none)"
    )
    parser.add_argument(
        "--overlap", choices=Overlap.values, help="what to do while an earlier mission runs (default: skip)"
    )
    parser.add_argument(
        "--catch-up",
        choices=CatchUp.values,
        help="what to do about times missed while no control loop ran (default: once)",
    )
    parser.add_argument(
        "--deadline",
        dest="deadline_s",
        type=plan_arguments.duration,
        metavar="DURATION",
        help="skip a launch that is later than this; 0: never (default: 0)",
    )


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    """The settings given on the command line."""
    settings = {name: options[name] for name in OPTIONS if options.get(name) is not None}
    if options["param"]:
        settings["params"] = arguments.pairs(options["param"], option="--param")
    if options["plan"]:
        settings["plan"] = plan_arguments.read(options["plan"]).decode("utf-8", "replace")
        if options["action"] == "change":
            settings["template"] = ""
    elif settings.get("template") and options["action"] == "change":
        settings["plan"] = ""
    return settings


def _next(row: Schedule) -> str:
    if row.paused:
        return f"It is paused: {lines.one_line(row.reason)}" if row.reason else "It is paused."
    return (
        f"Next: {_local_time(row.next_at.isoformat(), row.timezone)}"
        if row.next_at
        else "Nothing more will be launched."
    )


def _local_time(at: str | None, timezone: str) -> str:
    """A local time in a time zone, to the minute."""
    return f"{cron.local(datetime.fromisoformat(at), timezone):%Y-%m-%d %H:%M %Z}" if at else "–"
