"""`manage.py fleet_mission validate|run|create|list|show|watch|logs|artifacts|cancel|pause|resume|retry`."""

from __future__ import annotations

import json
import os
import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings

from fleet import errors
from fleet.console.progress import Board
from fleet.events import stream
from fleet.management.operator import OperatorCommand
from missions import artifacts, operations, plan, queries, surroundings
from missions.models import Artifact, Mission
from missions.states import MissionState

LOOK_S = 0.3
UNSUCCESSFUL, TIMED_OUT, DETACHED = 5, 3, 130

EXAMPLES = """
examples:
  manage.py fleet_mission run missions/examples/audit.yaml --param repository=../other
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
            made: ArgumentParser = actions.add_parser(name, help=words)
            made.add_argument("--json", action="store_true", help="one JSON document on standard output")
            return made

        validate = action("validate", "read a plan and tell every fault that it has, with its line")
        run = action("run", "launch a plan and watch it to its end")
        create = action("create", "create a mission from a plan; `resume` starts it")
        for one in (validate, run, create):
            one.add_argument("plan", help="a file of YAML or JSON; - for standard input")
            one.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="an input of the plan")
        run.add_argument("--detach", action="store_true", help="launch it and return at once")
        listing = action("list", "the last missions")
        listing.add_argument("--state", choices=[state.value for state in MissionState])
        listing.add_argument("-n", "--number", type=int, default=20, help="how many (20)")
        show = action("show", "one mission and its sorties")
        watch = action("watch", "follow a mission to its end")
        for one in (run, watch):
            one.add_argument("--jsonl", action="store_true", help="one JSON document a line for each event")
            one.add_argument(
                "--timeout", type=float, metavar="SECONDS", help="stop waiting after so long (exit code 3)"
            )
        logs = action("logs", "what a sortie printed")
        files = action("artifacts", "the files that a mission gave out")
        files.add_argument("--save", metavar="FOLDER", help="write them there")
        cancel = action("cancel", "stop a mission, or one sortie")
        pause = action("pause", "let what runs finish, and start nothing more")
        resume = action("resume", "let a paused or created mission go on")
        retry = action("retry", "reopen what ended badly, or one sortie")
        for one in (show, watch, logs, files, cancel, pause, resume, retry):
            one.add_argument("mission", help="its id, the end of its id, or `latest`")
        logs.add_argument("sortie", help="its key or its id")
        logs.add_argument("--attempt", type=int, help="which one; the last unless told")
        logs.add_argument("-f", "--follow", action="store_true", help="go on until the attempt ends")
        for one in (cancel, retry):
            one.add_argument("sortie", nargs="?", help="only this one")
        for one in (cancel, pause):
            one.add_argument("--reason", default="", help="kept with the mission and in its events")

    def act(self, **options: Any) -> int:
        match options["action"]:
            case "validate" | "run" | "create":
                return self._plan(options)
            case "list":
                return self._list(options)
            case "watch":
                return self._watch(queries.find(options["mission"]).id, options)
            case "show":
                return self._show(queries.find(options["mission"]), as_json=options["json"])
            case "logs":
                return self._logs(queries.find(options["mission"]), options)
            case "artifacts":
                return self._artifacts(queries.find(options["mission"]), options)
            case _:
                return self._steer(queries.find(options["mission"]), options)

    # ── Plans ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _plan(self, options: dict[str, Any]) -> int:
        text = _read(options["plan"])
        params = dict(_pair(pair) for pair in options["param"])
        read = plan.load(text=text, surroundings=surroundings.current())
        if options["action"] == "validate":
            if options["json"]:
                self.show({"valid": True, "name": read.name, "sorties": len(read.sorties)})
            else:
                self.say(f"The plan is valid: {read.name}, {len(read.sorties)} sorties.")
            return 0
        act = operations.launch if options["action"] == "run" else operations.create
        mission = act(plan=read, text=text.decode("utf-8", "replace"), params=params, folder=os.getcwd(), by=None)
        if options["action"] == "create" or options["detach"]:
            if options["json"]:
                self.show(queries.summary(mission))
            else:
                self.say(f"{mission.ref} {mission.state}: {mission.name}")
                word = "resume" if options["action"] == "create" else "watch"
                self.say(f"Go on with: manage.py fleet_mission {word} {mission.ref}")
            return 0
        self.say(f"{mission.ref}: {mission.name}, {len(read.sorties)} sorties")
        return self._watch(mission.id, options)

    def _watch(self, mission: UUID, options: dict[str, Any]) -> int:
        """Follow to the end. Ctrl-C leaves the mission alone and says how to come back."""
        deadline = time.monotonic() + options["timeout"] if options["timeout"] else None
        last = 0
        try:
            with Board() as board:
                while True:
                    found = Mission.objects.get(id=mission)
                    if options["jsonl"]:
                        last = self._tell_events(mission, last)
                    elif not options["json"] or board.live:
                        board.update(queries.summary(found), queries.items(found))
                    if MissionState(found.state).final:
                        break
                    if deadline is not None and time.monotonic() > deadline:
                        self.say(f"Still {found.state}. Come back with: manage.py fleet_mission watch {found.ref}")
                        return TIMED_OUT
                    time.sleep(LOOK_S)
        except KeyboardInterrupt:
            found = Mission.objects.get(id=mission)
            self.say(f"\nThe mission goes on. Come back with: manage.py fleet_mission watch {found.ref}")
            return DETACHED
        if options["jsonl"]:
            last = self._tell_events(mission, last)
        return self._end(found, as_json=options["json"])

    def _end(self, mission: Mission, *, as_json: bool) -> int:
        summary = queries.summary(mission)
        if as_json:
            self.show(summary)
        counts = ", ".join(f"{n} {name}" for name, n in summary["sorties"].items() if n and name != "total")
        self.say(f"{mission.name} {mission.state} in {summary['elapsed_s']:.1f} s: {counts}")
        for item in queries.items(mission):
            if item["state"] == "failed":
                self.say(f"  ✗ {item['key']}: {item['error']}")
        self._tell_found(mission)
        if files := queries.artifacts(mission):
            folder = settings.FLEET_HOME.root / "reports" / mission.ref
            for path in _save(files, folder):
                self.say(f"  {path}")
        return 0 if mission.state == MissionState.SUCCEEDED else UNSUCCESSFUL

    def _tell_found(self, mission: Mission) -> None:
        """What the last sortie concluded, where its result has a `verdict`, `because` and `top` (docs/commands.md)."""
        last = queries.items(mission)[-1:]
        result = last[0]["result"] if last else None
        if not isinstance(result, dict) or not isinstance(result.get("verdict"), str):
            return
        self.say(f"\n{result['verdict']} {result.get('because') or ''}".rstrip())
        top = result.get("top")
        for number, one in enumerate(top[:5] if isinstance(top, list) else [], start=1):
            if isinstance(one, dict):
                where = f" ({one['file']}:{one.get('line') or 1})" if one.get("file") else ""
                self.say(f"  {number}. {one.get('title', '')}{where}")
        self.say("")

    def _tell_events(self, mission: UUID, last: int) -> int:
        for event in stream.since(last=last, scope=mission):
            last = event.id
            line = {"id": event.id, "at": event.at.isoformat(), "kind": event.kind, "subject": str(event.subject)}
            self.stdout.write(json.dumps({**line, "data": event.data}))
        self.stdout.flush()
        return last

    # ── Looking ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _list(self, options: dict[str, Any]) -> int:
        found = Mission.objects.order_by("-id")
        if options["state"]:
            found = found.filter(state=options["state"])
        rows = list(found[: options["number"]])
        counted = queries.counts(mission.id for mission in rows)
        summaries = [queries.summary(mission, counted.get(mission.id, {})) for mission in rows]
        if options["json"]:
            self.show(summaries)
            return 0
        for one in summaries:
            done = sum(one["sorties"][state] for state in ("succeeded", "failed", "skipped", "cancelled"))
            self.stdout.write(
                f"{one['id']}  {one['state']:<10} {done:>5}/{one['sorties']['total']:<5} {one['elapsed_s']:>8.1f} s  {one['name']}"
            )
        if not summaries:
            self.say("No missions yet. Launch one: manage.py fleet_mission run missions/examples/audit.yaml")
        return 0

    def _show(self, mission: Mission, *, as_json: bool) -> int:
        items = queries.items(mission)
        if as_json:
            files = [
                {"id": file.ref, "sortie": file.sortie.key, "path": file.path, "digest": file.digest, "size": file.size}
                for file in queries.artifacts(mission)
            ]
            self.show({**queries.summary(mission), "items": items, "artifacts": files})
            return 0
        summary = queries.summary(mission)
        self.stdout.write(f"{mission.ref}  {mission.name}  {mission.state}  {summary['elapsed_s']:.1f} s")
        for item in items:
            what = item["error"] or item["waits_for"] or item["note"] or ""
            self.stdout.write(
                f"  {item['state']:<10} {item['key']:<30} {item['agent_type']:<14} attempt {item['attempt']}  {what}".rstrip()
            )
        return 0

    def _logs(self, mission: Mission, options: dict[str, Any]) -> int:
        sortie = queries.find_sortie(mission, options["sortie"])
        last = 0
        while True:
            sortie.refresh_from_db()
            over = not options["follow"] or (sortie.state != "running" and sortie.attempt > 0)
            for piece in queries.output(sortie=sortie, attempt=options["attempt"], after=last):
                last = piece.id
                (sys.stdout if piece.stream == "stdout" else sys.stderr).write(piece.text)
            sys.stdout.flush()
            if over:
                return 0
            time.sleep(LOOK_S)

    def _artifacts(self, mission: Mission, options: dict[str, Any]) -> int:
        files = queries.artifacts(mission)
        if options["save"]:
            for path in _save(files, Path(options["save"])):
                self.say(f"wrote {path}")
        for file in files:
            if not options["save"] and not options["json"]:
                self.stdout.write(f"{file.ref}  {file.size:>12,}  {file.digest[:12]}  {file.sortie.key}  {file.path}")
        if options["json"]:
            self.show(
                [
                    {"id": f.ref, "sortie": f.sortie.key, "path": f.path, "digest": f.digest, "size": f.size}
                    for f in files
                ]
            )
        return 0

    # ── Steering ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _steer(self, mission: Mission, options: dict[str, Any]) -> int:
        sortie = queries.find_sortie(mission, options["sortie"]).id if options.get("sortie") else None
        match options["action"]:
            case "cancel" if sortie:
                operations.cancel_sortie(sortie=sortie)
            case "cancel":
                operations.cancel(mission=mission.id, reason=options["reason"])
            case "retry" if sortie:
                operations.retry_sortie(sortie=sortie)
            case "retry":
                operations.retry(mission=mission.id)
            case "pause":
                operations.pause(mission=mission.id, reason=options["reason"])
            case "resume":
                operations.resume(mission=mission.id)
        mission.refresh_from_db()
        if options["json"]:
            self.show(queries.summary(mission))
        else:
            self.say(f"{mission.ref} is {mission.state}.")
        return 0


def _read(name: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(name).read_bytes()
    except OSError as fault:
        raise errors.Invalid(f"The plan {name!r} cannot be read: {fault.strerror}.") from fault


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise errors.Invalid(f"--param {text!r} is not NAME=VALUE.")
    return name, value


def _save(files: list[Artifact], folder: Path) -> list[Path]:
    """Write artifacts under a folder, by sortie and path; the paths that were written."""
    written = []
    for file in files:
        target = folder / file.sortie.key / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        with artifacts.open_stored(file) as source, target.open("wb") as copy:
            copy.writelines(source.chunks())
        written.append(target)
    return written
