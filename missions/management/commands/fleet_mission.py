"""`manage.py fleet_mission validate|run|create|list|show|watch|wait|logs|artifacts|cancel|pause|resume|retry`."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError

from fleet import errors
from fleet.console import arguments, documents, lines, repeating
from fleet.management.operator import OperatorCommand
from missions import operations, plan, queries, surroundings
from missions.management import completing, showing, watching
from missions.models import Mission
from missions.plan import durations
from missions.states import MissionState, SortieState

EXAMPLES = """
examples:
  manage.py fleet_mission run examples/repo_audit/audit.yaml --param repository=../other
  manage.py fleet_mission watch latest
  manage.py fleet_mission logs latest inventory -f
  manage.py fleet_mission artifacts latest --save report/

exit codes: 0 well · 1 error · 2 usage or a bad plan · 3 the wait timed out · 5 the mission did not succeed · 130 Ctrl-C
"""


class Command(OperatorCommand):
    help = "Launch missions, and see and steer what becomes of them."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.epilog = EXAMPLES
        return parser

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)

        def action(name: str, words: str) -> ArgumentParser:
            made: ArgumentParser = actions.add_parser(name, help=words, description=words)
            made.add_argument("--json", action="store_true", help="one JSON document on standard output")
            return made

        validate = action("validate", "read a plan and tell every fault that it has, with its line")
        run = action("run", "launch a plan and watch it to its end")
        create = action("create", "create a mission from a plan; `resume` starts it")
        for one in (validate, run, create):
            one.add_argument("plan", help="a file of YAML or JSON; - for standard input")
            one.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="an input of the plan")
        run.add_argument("--detach", action="store_true", help="launch it and return at once")
        run.add_argument(
            "--dry-run",
            action="store_true",
            help="launch nothing: only refuse what is wrong with the plan and its inputs, as far as that can be said "
            "without the database, which knows the agent types",
        )
        listing = action("list", "the last missions")
        listing.add_argument("--state", choices=[state.value for state in MissionState])
        listing.add_argument("-n", "--number", type=arguments.count, default=20, help="how many (20)")
        listing.add_argument("--watch", **repeating.ARGUMENT)
        show = action("show", "one mission and its sorties; a large mission is summed up")
        show.add_argument(
            "--state",
            action="append",
            choices=[state.value for state in SortieState],
            help="only sorties in this state; may be repeated",
        )
        show.add_argument("--all", action="store_true", help="each sortie, also of a large mission")
        watch = action("watch", "follow a mission to its end")
        for one in (run, watch):
            one.add_argument("--jsonl", action="store_true", help="one JSON document a line for each event")
            one.add_argument(
                "--timeout",
                type=_duration,
                metavar="DURATION",
                help="stop waiting after so long, such as 90s, 10m or a number of seconds (exit code 3)",
            )
        action("wait", "wait until no mission runs any more")
        logs = action("logs", "what a sortie printed")
        logs.add_argument("--jsonl", action="store_true", help="one JSON document a line for each piece of output")
        files = action("artifacts", "the files that a mission gave out")
        files.add_argument("--save", metavar="FOLDER", help="write them there")
        cancel = action("cancel", "stop a mission, or one sortie")
        pause = action("pause", "let what runs finish, and start nothing more")
        resume = action("resume", "go on with a paused mission, or start a created one")
        retry = action("retry", "reopen what ended badly, or one sortie")
        for one in (show, watch, logs, files, cancel, pause, resume, retry):
            named = one.add_argument("mission", help="its id, the end of its id, or `latest`")
            completing.completed(named, by=completing.missions)
        chosen = [logs.add_argument("sortie", help="its key or its id")]
        logs.add_argument("--attempt", type=arguments.count, help="which one; the last unless told")
        logs.add_argument("-f", "--follow", action="store_true", help="go on until the attempt ends")
        chosen += [one.add_argument("sortie", nargs="?", help="only this one") for one in (cancel, retry)]
        completing.completed(*chosen, by=completing.sorties)
        for one in (cancel, pause):
            told = "kept with the mission and in its events; of one sortie, in the audit trail"
            one.add_argument(
                "--reason", default="", help=told if one is cancel else "kept with the mission and in its events"
            )

    def act(self, **options: Any) -> int:
        match options["action"]:
            case "validate":
                return self._validate(options, self._surroundings())
            case "run" | "create":
                return self._launch(options)
            case "list":
                return self.again(lambda: self._list(options), every_s=options["watch"])
            case "wait":
                return self._wait(options)
            case "watch":
                return self._watch(queries.find(options["mission"]), options)
            case "show":
                return self._show(queries.find(options["mission"]), options)
            case "logs":
                return self._logs(queries.find(options["mission"]), options)
            case "artifacts":
                return self._artifacts(queries.find(options["mission"]), options)
            case _:
                return self._steer(queries.find(options["mission"]), options)

    # ── Plans ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _validate(self, options: dict[str, Any], around: plan.Surroundings) -> int:
        try:
            read = plan.load(text=_read(options["plan"]), surroundings=around)
            if options["param"] or options.get("dry_run"):
                plan.bind(plan=read, given=_params(options["param"]))
        except plan.PlanError as refused:
            if not options["json"]:
                raise
            self.show({"valid": False, "faults": [fault.as_json() for fault in refused.faults]})
            return refused.exit_code
        if options["json"]:
            self.show({"valid": True, "name": read.name, "sorties": len(read.sorties), "faults": []})
        elif not options.get("dry_run"):  # that one only says what is wrong
            self.say(f"The plan is valid: {lines.one(read.name)}, {lines.counted(len(read.sorties), 'sortie')}.")
        return 0

    def _surroundings(self) -> plan.Surroundings:
        """What there is here; where no fleet runs, all but the agent types, which are in its database."""
        try:
            return surroundings.current()
        except (OperationalError, InterfaceError):
            self.say("No fleet runs here, so it is not known which agent types there are; all else is looked at.")
            return surroundings.without_database()

    def _launch(self, options: dict[str, Any]) -> int:
        if options.get("dry_run"):
            return self._validate(options, surroundings.without_database())
        text = _read(options["plan"])
        params = _params(options["param"])
        read = plan.load(text=text, surroundings=surroundings.current())
        mission = operations.launch(
            plan=read,
            text=text.decode("utf-8", "replace"),
            params=params,
            folder=watching.here(),
            operator=True,
            by=None,
            executes=True,  # on this machine it is the operator who asks
            start=options["action"] == "run",
        )
        if options["action"] == "run" and not options["detach"]:
            self.say(f"{mission.ref}: {lines.one(mission.name)}, {lines.counted(len(read.sorties), 'sortie')}")
            return self._watch(mission, options)
        if options["json"]:
            self.show(queries.summary(mission))
        else:
            self.say(f"{mission.ref} {mission.state}: {lines.one(mission.name)}")
            word = "resume" if options["action"] == "create" else "watch"
            self.say(f"Go on with: manage.py fleet_mission {word} {mission.ref}")
        return 0

    def _watch(self, mission: Mission, options: dict[str, Any]) -> int:
        return watching.to_its_end(
            mission=mission,
            command=self,
            as_json=options["json"],
            timeout_s=options["timeout"],
            tell=self._tell if options["jsonl"] else None,
        )

    def _wait(self, options: dict[str, Any]) -> int:
        code = watching.until_none_runs(say=self.say)
        if options["json"]:
            self.show({"ended": code == 0})
        return code

    def _tell(self, event: dict[str, Any]) -> None:
        self.stdout.write(json.dumps(event))
        self.stdout.flush()

    # ── Looking ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _list(self, options: dict[str, Any]) -> int:
        found = Mission.objects.defer("plan").order_by("-id")
        if options["state"]:
            found = found.filter(state=options["state"])
        rows = list(found[: options["number"]])
        counted = queries.counts(mission.id for mission in rows)
        summaries = [queries.summary(mission, counted.get(mission.id, {})) for mission in rows]
        if options["json"]:
            self.show(summaries, one_line=options["watch"] is not None)
        elif summaries:
            showing.summaries_as_text(summaries=summaries, out=self.stdout)
        elif options["number"] == 0:
            pass  # as was asked
        elif options["state"]:
            self.say(f"No mission is {options['state']}.")
        else:
            self.say("No missions yet. Launch one: manage.py fleet_mission run examples/repo_audit/audit.yaml")
        return 0

    def _show(self, mission: Mission, options: dict[str, Any]) -> int:
        if options["json"]:
            showing.mission_as_json(mission=mission, states=options["state"], write=self._write)
        else:
            showing.mission_as_text(
                mission=mission, states=options["state"], everything=options["all"], out=self.stdout
            )
        return 0

    def _logs(self, mission: Mission, options: dict[str, Any]) -> int:
        sortie = queries.find_sortie(mission, options["sortie"])
        log = showing.Log(sortie=sortie, attempt=options["attempt"])
        if options["json"] or options["jsonl"]:
            showing.log_as_json(log=log, follow=options["follow"], one_a_line=options["jsonl"], write=self._write)
            return 0
        if not sortie.attempt:
            why = queries.item(sortie)["waits_for"]
            self.say(f"{sortie.key} has printed nothing: it has not started. {why}".rstrip())
        showing.log_as_text(log=log, follow=options["follow"])
        if sortie.attempt and log.silent:
            self.say(f"{sortie.key} has printed nothing{'' if SortieState(sortie.state).final else ' yet'}.")
        return 0

    def _artifacts(self, mission: Mission, options: dict[str, Any]) -> int:
        files = queries.artifacts(mission)
        if options["save"]:
            for path in watching.save(files.iterator(), Path(options["save"])):
                self.say(f"wrote {path}")
        if options["json"]:
            documents.array(self._write, (queries.artifact(file) for file in files.iterator()))
            self._write("\n")
        elif not options["save"]:
            for file in files.iterator():
                self.stdout.write(
                    f"{file.ref}  {file.size:>12,}  {file.digest[:12]}  {lines.one(file.sortie.key)}  {lines.one(file.path)}"
                )
        if not files.exists():
            self.say("It has given out no files.")
        return 0

    def _write(self, text: str) -> None:
        self.stdout.write(text, ending="")

    # ── Steering ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _steer(self, mission: Mission, options: dict[str, Any]) -> int:
        sortie = queries.find_sortie(mission, options["sortie"]).id if options.get("sortie") else None
        match options["action"]:
            case "cancel" if sortie:
                operations.cancel_sortie(sortie=sortie, reason=options["reason"])
            case "cancel":
                operations.cancel(mission=mission.id, reason=options["reason"])
            case "retry" if sortie:
                operations.retry_sortie(sortie=sortie, executes=True)
            case "retry":
                operations.retry(mission=mission.id, executes=True)
            case "pause":
                operations.pause(mission=mission.id, reason=options["reason"])
            case "resume":
                operations.resume(mission=mission.id, executes=True)
        mission.refresh_from_db()
        if options["json"]:
            self.show(queries.summary(mission))
        else:
            self.say(f"{mission.ref} is {mission.state}.")
        return 0


def _duration(text: str) -> float:
    """Seconds: a number of them, or a duration as plans have it."""
    try:
        return durations.seconds(text) if text[-1:].isalpha() else arguments.seconds(text)
    except ValueError as fault:
        raise ArgumentTypeError(f"{text!r} {fault}; write 90s, 10m, 1h30m or a number of seconds") from fault


def _read(name: str) -> bytes:
    """The plan's bytes; of one that is too long only as much as tells that it is."""
    most = settings.FLEET_PLAN_BYTES + 1
    if name == "-":
        return sys.stdin.buffer.read(most)
    try:
        with Path(name).open("rb") as file:
            return file.read(most)
    except (OSError, ValueError) as fault:
        why = fault.strerror if isinstance(fault, OSError) else fault
        raise errors.Invalid(f"The plan {name!r} cannot be read: {why}.") from fault


def _params(pairs: list[str]) -> dict[str, str]:
    params: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise errors.Invalid(f"--param {pair!r} is not NAME=VALUE.")
        if name in params:
            raise errors.Invalid(f"--param {name} is given twice.", hint="Give it once.")
        params[name] = value
    return params
