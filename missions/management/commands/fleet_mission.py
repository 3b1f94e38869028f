"""`manage.py fleet_mission validate|run|create|list|show|watch|wait|logs|artifacts|cancel|pause|resume|retry`,
and the actions of `workspace_actions`: `diff|conflicts|resolve|merge|discard`."""

from __future__ import annotations

import json
import os
from argparse import SUPPRESS, ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings

from fleet import errors
from fleet.config import home
from fleet.console import arguments, invocation, json_output, lines, repeating
from fleet.management.operator import OperatorCommand
from fleet.postgres import retries
from missions import operations, plan
from missions.management import (
    artifact_files,
    completion,
    mission_output,
    mission_watch,
    plan_arguments,
    workspace_actions,
)
from missions.models import Mission, Sortie
from missions.operations.workspaces import preparing
from missions.queries import (
    mission_json,
    mission_lookup,
    mission_results,
    plan_context,
    schedules,
    sortie_json,
    workspaces,
)
from missions.states import MissionState, SortieState, predicate

EXIT_CODES = """exit codes:
  0 success, 1 error, 2 wrong usage or an invalid plan, 3 the wait timed out,
  5 the mission did not succeed, 130 Ctrl-C (the mission continues)"""


class Command(OperatorCommand):
    help = "Launch missions, watch them, and control them."

    def epilog(self) -> str:
        examples = (
            invocation.command("fleet_mission", "run", "plan.yaml", "--param", "name=value"),
            invocation.command("fleet_mission", "watch", "latest"),
            invocation.command("fleet_mission", "logs", "latest"),
            invocation.command("fleet_mission", "artifacts", "latest", "--save", "report/"),
        )
        return "\n".join(("examples:", *(f"  {example}" for example in examples), "", EXIT_CODES))

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

        def action(name: str, text: str) -> ArgumentParser:
            parser: ArgumentParser = actions.add_parser(name, help=text, description=f"{text[:1].upper()}{text[1:]}.")
            parser.add_argument("--json", action="store_true", help="print one JSON document")
            return parser

        validate = action("validate", "check a plan and report every error with its line")
        run = action("run", "launch a plan and watch the mission until it ends")
        create = action("create", "create a mission without starting it; `resume` starts it")
        for parser_ in (validate, run, create):
            parser_.add_argument("plan", help="a YAML or JSON file, or - for standard input")
            parser_.add_argument(
                "--param", action="append", default=[], metavar="NAME=VALUE", help="an input of the plan"
            )
        run.add_argument("--detach", action="store_true", help="launch the mission and return at once")
        run.add_argument(
            "--dry-run",
            action="store_true",
            help="only check the plan and its inputs, without the database, so agent types are not checked",
        )
        run.add_argument("--list-saved", type=Path, help=SUPPRESS)  # for fleet_up: see mission_watch.print_outcome
        listing = action("list", "list the most recent missions")
        listing.add_argument(
            "--state", choices=[state.value for state in MissionState], metavar="STATE", help="only in this state"
        )
        schedule = listing.add_argument("--schedule", metavar="SCHEDULE", help="only those that this schedule launched")
        completion.complete(schedule, by=completion.schedules)
        listing.add_argument("-n", "--number", type=arguments.count, default=20, help="how many (default: 20)")
        listing.add_argument("--watch", **repeating.ARGUMENT)
        show = action("show", "show a mission and its sorties")
        show.add_argument(
            "--state",
            action="append",
            choices=[state.value for state in SortieState],
            metavar="STATE",
            help="only sorties in this state; may be repeated",
        )
        show.add_argument("--all", action="store_true", help="all sorties, however many there are")
        watch = action("watch", "watch a mission until it ends")
        for parser_ in (run, watch):
            parser_.add_argument("--jsonl", action="store_true", help="print one JSON document per event")
            parser_.add_argument(
                "--timeout",
                type=plan_arguments.duration,
                metavar="DURATION",
                help="stop waiting after this long, such as 90s, 10m or a number of seconds (exit code 3)",
            )
        action("wait", "wait until no mission is running")
        logs = action("logs", "show the output of a sortie, the members of a matrix, or all sorties")
        logs.add_argument("--raw", action="store_true", help="do not make control characters visible")
        logs.add_argument("--jsonl", action="store_true", help="print one JSON document per chunk of output")
        artifacts = action("artifacts", "list or save the files that a mission produced")
        artifacts.add_argument("--save", metavar="FOLDER", help="write them to this folder")
        cancel = action("cancel", "cancel a mission or one sortie")
        pause = action("pause", "let running sorties finish, and start no more")
        resume = action("resume", "continue a paused mission, or start a created one")
        retry = action("retry", "run failed, cancelled and skipped sorties again, or one sortie")
        for parser_ in (show, watch, logs, artifacts, cancel, pause, resume, retry):
            mission = parser_.add_argument("mission", help="its id, the end of its id, or `latest`")
            completion.complete(mission, by=completion.missions)
        sorties = [logs.add_argument("sortie", nargs="?", help="a key, an id, or the name of a matrix; default: all")]
        logs.add_argument(
            "--attempt", type=arguments.count, help="only this attempt (default: the last one of a single sortie)"
        )
        logs.add_argument(
            "-f", "--follow", action="store_true", help="keep showing output until the sorties have ended"
        )
        sorties += [
            parser_.add_argument("sortie", nargs="?", help="only this sortie: its key or id")
            for parser_ in (cancel, retry)
        ]
        completion.complete(*sorties, by=completion.sorties)
        cancel.add_argument(
            "--reason", default="", help="recorded with the mission, or for a sortie in the audit trail"
        )
        pause.add_argument("--reason", default="", help="recorded with the mission")
        workspace_actions.add_arguments(action)

    def act(self, **options: Any) -> int:
        match options["action"]:
            case "validate":
                return self._validate(options, self._plan_context())
            case "run" | "create":
                return self._launch(options)
            case "list":
                return self.show_repeatedly(lambda: self._list(options), every_s=options["watch"])
            case "wait":
                return self._wait(options)
            case "watch":
                return self._watch(mission_lookup.find(options["mission"]), options)
            case "show":
                return self._show(mission_lookup.find(options["mission"]), options)
            case "logs":
                return self._logs(mission_lookup.find(options["mission"]), options)
            case "artifacts":
                return self._artifacts(mission_lookup.find(options["mission"]), options)
            case name if name in workspace_actions.ACTIONS:
                return workspace_actions.act(self, mission_lookup.find(options["mission"]), options)
            case _:
                return self._change(mission_lookup.find(options["mission"]), options)

    # ── Plans ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _validate(self, options: dict[str, Any], context: plan.PlanContext) -> int:
        text = plan_arguments.read(options["plan"])
        try:
            parsed = plan.load(text=text, context=context)
            params = arguments.pairs(options["param"], option="--param")
            required = any(spec.required for spec in parsed.inputs.values())
            if params or options.get("dry_run") or not required:
                inputs = plan.bind(plan=parsed, params=params)
                preparing.check(plan=parsed, inputs=inputs, folder=plan_arguments.current_folder())
        except errors.Invalid as error:
            located = plan.with_line(error=error, text=text, context=context)
            if not options["json"] or not isinstance(located, plan.PlanError):
                raise located from None
            self.show({"valid": False, "errors": [problem.as_json() for problem in located.problems], "warnings": []})
            return located.exit_code
        warnings = plan.warnings(parsed)
        if options["json"]:
            self.show(
                {
                    "valid": True,
                    "name": parsed.name,
                    "sorties": len(parsed.sorties),
                    "errors": [],
                    "warnings": [
                        {"where": warning.where, "warning": warning.text, "fix": warning.fix} for warning in warnings
                    ],
                }
            )
            return 0
        self._warn(warnings)
        if not options.get("dry_run"):  # a dry run prints only errors and warnings
            self.say(
                f"The plan is valid: {lines.one_line(parsed.name)}, {lines.counted(len(parsed.sorties), 'sortie')}."
            )
        return 0

    def _warn(self, warnings: list[plan.Advice]) -> None:
        for warning in warnings:
            self.say(f"Warning: {lines.one_line(warning)}")

    def _plan_context(self) -> plan.PlanContext:
        """The agent types, callables and limits that plans are checked against; without a database, no agent types."""
        try:
            return plan_context.current()
        except retries.TRANSIENT:
            self.say("The fleet is not running here, so the agent types are not checked.")
            return plan_context.without_database()

    def _launch(self, options: dict[str, Any]) -> int:
        if options.get("dry_run"):
            return self._validate(options, plan_context.without_database())
        text = plan_arguments.read(options["plan"])
        params = arguments.pairs(options["param"], option="--param")
        parsed = plan.load(text=text, context=plan_context.current())
        try:
            mission = operations.launch(
                plan=parsed,
                text=text.decode("utf-8", "replace"),
                params=params,
                folder=plan_arguments.current_folder(),
                operator=True,
                by=None,
                can_execute=True,  # the users of this command are the fleet's operators
                start=options["action"] == "run",
            )
        except errors.Invalid as error:
            raise plan.with_line(error=error, text=text, context=plan_context.current()) from None
        self._warn(plan.warnings(parsed))
        if options["action"] == "run" and not options["detach"]:
            self.say(f"{mission.ref}: {lines.one_line(mission.name)}, {lines.counted(len(parsed.sorties), 'sortie')}")
            return self._watch(mission, options)
        if options["json"]:
            self.show(mission_json.summary(mission))
        else:
            self.say(f"{mission.ref} {mission.state}: {lines.one_line(mission.name)}")
            if options["action"] == "create":
                self.say(f"Start it: {invocation.command('fleet_mission', 'resume', mission.ref)}")
            else:
                self.say(f"Watch it: {invocation.command('fleet_mission', 'watch', mission.ref)}")
        return 0

    def _watch(self, mission: Mission, options: dict[str, Any]) -> int:
        return mission_watch.watch_to_end(
            mission=mission,
            command=self,
            as_json=options["json"],
            timeout_s=options["timeout"],
            on_event=self._write_event if options["jsonl"] else None,
            list_saved=options.get("list_saved"),
        )

    def _wait(self, options: dict[str, Any]) -> int:
        code = mission_watch.wait_for_all(say=self.say)
        if options["json"]:
            self.show({"ended": code == 0})
        return code

    def _write_event(self, event: dict[str, Any]) -> None:
        self.stdout.write(json.dumps(event))
        self.stdout.flush()

    # ── Reads ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _list(self, options: dict[str, Any]) -> int:
        rows = Mission.objects.defer("plan").order_by("-id")
        if options["state"]:
            rows = rows.filter(state=options["state"])
        if options["schedule"]:
            rows = rows.filter(schedule=schedules.find(options["schedule"]).id)
        missions = list(rows[: options["number"]])
        counts = mission_json.counts(mission.id for mission in missions)
        summaries = [mission_json.summary(mission, counts.get(mission.id, {})) for mission in missions]
        if options["json"]:
            self.show(summaries, one_line=options["watch"] is not None)
        elif summaries:
            mission_output.summaries_as_text(summaries=summaries, out=self.stdout)
        elif options["number"] == 0:
            pass
        elif options["state"]:
            self.say(f"There is no mission in the state {options['state']}.")
        elif options["schedule"]:
            self.say("The schedule has launched no mission that is still stored.")
        else:
            example = invocation.command("fleet_mission", "run", _sample_plan())
            self.say(f"There are no missions yet. Launch one: {example}")
        return 0

    def _show(self, mission: Mission, options: dict[str, Any]) -> int:
        if options["json"]:
            mission_output.mission_as_json(mission=mission, states=options["state"], write=self._write)
        else:
            mission_output.mission_as_text(
                mission=mission, states=options["state"], show_all=options["all"], out=self.stdout
            )
        return 0

    def _logs(self, mission: Mission, options: dict[str, Any]) -> int:
        sorties = mission_lookup.find_sorties(mission, options["sortie"]) if options["sortie"] is not None else None
        if sorties is not None and len(sorties) == 1:
            return self._log_of_sortie(sorties[0], options)
        pieces = mission_output.output_of_sorties(
            mission=mission, sorties=sorties, attempt=options["attempt"], follow=options["follow"]
        )
        if options["json"] or options["jsonl"]:
            mission_output.write_as_json(pieces, one_per_line=options["jsonl"], write=self._write)
        elif not mission_output.write_interleaved(pieces, raw=options["raw"]):
            self.say("There is no output.")
        return 0

    def _log_of_sortie(self, sortie: Sortie, options: dict[str, Any]) -> int:
        pieces = mission_output.output_of_sortie(sortie=sortie, attempt=options["attempt"], follow=options["follow"])
        if options["json"] or options["jsonl"]:
            mission_output.write_as_json(pieces, one_per_line=options["jsonl"], write=self._write)
            return 0
        if not sortie.attempt:
            reason = sortie_json.of_sortie(sortie, visible=Mission.objects.all())["waits_for"]
            self.say(f"{sortie.key} has printed nothing: it has not started. {reason}".rstrip())
        printed = mission_output.write_as_text(pieces, raw=options["raw"])
        if sortie.attempt and not printed:
            sortie.refresh_from_db(fields=["state"])
            self.say(f"{sortie.key} has printed nothing{'' if SortieState(sortie.state).final else ' yet'}.")
        if options["attempt"] is None and not options["follow"]:
            self._name_attempt_that_worked(sortie)
        return 0

    def _name_attempt_that_worked(self, sortie: Sortie) -> None:
        """If the last attempt has only merged, its output is not that of the work: say where that is."""
        attempt = workspaces.merged_attempt(sortie)
        if attempt is not None:
            command = invocation.command(
                "fleet_mission", "logs", sortie.mission.ref, sortie.key, "--attempt", str(attempt)
            )
            self.say(f"Attempt {sortie.attempt} only merged the change of attempt {attempt}. Its output: {command}")

    def _artifacts(self, mission: Mission, options: dict[str, Any]) -> int:
        files = mission_results.artifacts(mission)
        if options["save"]:
            for path in artifact_files.save(files.iterator(), Path(options["save"])):
                self.say(f"wrote {path}")
        if options["json"]:
            json_output.write_array(self._write, (mission_results.artifact_as_json(file) for file in files.iterator()))
            self._write("\n")
        elif not options["save"]:
            for file in files.iterator():
                names = "  ".join(map(lines.one_line, (file.sortie.key, file.path)))
                self.stdout.write(f"{file.ref}  {file.size:>12,}  {file.digest[:12]}  {names}")
        if not files.exists():
            self.say("The mission has produced no files.")
        return 0

    def _write(self, text: str) -> None:
        self.stdout.write(text, ending="")

    # ── Changes ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _change(self, mission: Mission, options: dict[str, Any]) -> int:
        sortie = mission_lookup.find_sortie(mission, options["sortie"]).id if options.get("sortie") else None
        match options["action"]:
            case "cancel" if sortie:
                operations.cancel_sortie(sortie=sortie, reason=options["reason"])
            case "cancel":
                operations.cancel(mission=mission.id, reason=options["reason"])
            case "retry" if sortie:
                operations.retry_sortie(sortie=sortie, can_execute=True)
            case "retry":
                operations.retry(mission=mission.id, can_execute=True)
            case "pause":
                operations.pause(mission=mission.id, reason=options["reason"])
            case "resume":
                operations.resume(mission=mission.id, can_execute=True)
        mission.refresh_from_db()
        if options["json"]:
            self.show(mission_json.summary(mission))
        else:
            self.say(f"{mission.ref} {predicate(mission.state)}.")
        return 0


def _sample_plan() -> str:
    """The path of a plan that can be launched at once: the sample of a checkout, or what `fleet init` has created."""
    if home.is_checkout(settings.BASE_DIR):
        return os.path.relpath(settings.BASE_DIR / "examples/repo_audit/audit.yaml")
    return os.path.relpath(settings.FLEET_HOME.root.parent / "plan.yaml")
