"""`manage.py fleet_checkpoint create|list|show|diff|verify|restore|fork|export|import|delete|prune`."""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.utils import timezone

from checkpoints import operations
from checkpoints.files import storage
from checkpoints.management import output
from checkpoints.models import Checkpoint
from checkpoints.queries import lookup, summaries
from fleet import errors
from fleet.console import arguments, invocation, lines
from fleet.management.operator import OperatorCommand
from missions import operations as missions
from missions.models import Mission
from missions.queries import mission_json, mission_lookup
from missions.states import MissionState, predicate

LIVE = [state for state in MissionState if not state.final and state is not MissionState.CANCELLING]


class Command(OperatorCommand):
    help = "Capture missions, then restore, fork, verify or move them."

    def epilog(self) -> str:
        examples = (
            invocation.command("fleet_checkpoint", "create", "before-merge", "--mission", "latest"),
            invocation.command("fleet_checkpoint", "restore", "before-merge", "--dry-run"),
            invocation.command("fleet_checkpoint", "fork", "before-merge", "--from", "review"),
        )
        return "\n".join(("examples:", *(f"  {example}" for example in examples)))

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

        def action(name: str, summary: str) -> ArgumentParser:
            description = f"{summary[:1].upper()}{summary[1:]}."
            parser: ArgumentParser = actions.add_parser(name, help=summary, description=description)
            parser.add_argument("--json", action="store_true", help="print one JSON document")
            return parser

        create = action("create", "capture a mission, or the whole fleet, while it runs")
        create.add_argument("name", nargs="?", default="", help="a name; retention never removes a named checkpoint")
        create.add_argument(
            "--all", action="store_true", help="capture every live mission, the agent types and the concurrency limits"
        )
        create.add_argument("--note", default="", help="a note that is shown with it")
        create.add_argument("--keep", action="store_true", help="retention never removes it")
        listing = action("list", "list the most recent checkpoints")
        listing.add_argument("-n", "--number", type=arguments.count, default=20, help="how many (default: 20)")
        show = action("show", "show a checkpoint and its recovery context")
        diff = action("diff", "show what has changed from a checkpoint to another one, or to the mission now")
        verify = action("verify", "read every byte of one or all checkpoints; the exit code is 1 if one is damaged")
        restore = action("restore", "return a mission to its state in a checkpoint, and leave it paused")
        fork = action("fork", "create a mission that continues from a checkpoint")
        export = action("export", "write a mission from a checkpoint to one file")
        import_ = action("import", "create a mission from an exported file; nothing in it is trusted")
        delete = action("delete", "delete a checkpoint")
        prune = action("prune", "delete old and surplus checkpoints; only a dry run without --yes")
        for parser_ in (show, diff, restore, fork, export, delete):
            parser_.add_argument("checkpoint", help="its id, the end of its id, its name, or `latest`")
        verify.add_argument("checkpoint", nargs="?", help="default: all checkpoints")
        diff.add_argument("other", nargs="?", help="a later checkpoint; default: the mission as it is now")
        for parser_ in (create, listing, diff, restore, fork, export):
            parser_.add_argument("--mission", help="its id, the end of its id, or `latest`")
        restore.add_argument("--dry-run", action="store_true", help="only print the recovery plan and its risks")
        restore.add_argument("--plan", default="", metavar="DIGEST", help="refuse unless the plan has this digest")
        restore.add_argument("--force", action="store_true", help="accept high risks")
        fork.add_argument(
            "--from",
            action="append",
            default=[],
            dest="sorties",
            metavar="SORTIE",
            help="run this sortie and its dependents again",
        )
        fork.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="change an input")
        fork.add_argument(
            "--edit", metavar="FILE", help="YAML with new versions of sorties, which run again: sorties: {name: …}"
        )
        fork.add_argument("--name", default="", help="the name of the new mission")
        fork.add_argument("--start", action="store_true", help="start it")
        export.add_argument("file", help="the file to write; it must not exist")
        export.add_argument("--artifacts", action="store_true", help="include the bytes of the artifacts")
        import_.add_argument("file", help="the exported file")
        import_.add_argument("--folder", default="", help="the folder that the mission's sorties work in")
        import_.add_argument(
            "--repository",
            default="",
            help="path or address of the repository that the mission changes, if it has a workspace",
        )
        prune.add_argument("--yes", action="store_true", help="delete them")

    def act(self, **options: Any) -> int:
        operations.adopt()
        return int(getattr(self, f"_{options['action']}")(options))

    def _create(self, options: dict[str, Any]) -> int:
        details = {name: options[name] for name in ("name", "note", "keep")}
        if options["all"]:
            checkpoint = operations.capture_all(**details)
        else:
            checkpoint = operations.capture(missions=[self._mission(options["mission"]).id], **details)
        if options["json"]:
            self.show(summaries.summary(checkpoint))
        else:
            self.stdout.write(checkpoint.ref)
            self.say(
                f"Captured {lines.counted(checkpoint.sorties, 'sortie')} of "
                f"{lines.counted(len(checkpoint.missions), 'mission')}: {lines.size(checkpoint.bytes)},"
                f" of which {lines.size(checkpoint.new_bytes)} are new."
            )
        return 0

    def _mission(self, reference: str | None) -> Mission:
        """The mission with this reference, by default the only live one."""
        if reference:
            return mission_lookup.find(reference)
        live = list(Mission.objects.filter(state__in=LIVE).order_by("-id")[:2])
        if len(live) != 1:
            message = "Several missions are live." if live else "No mission is live."
            raise errors.Invalid(message, hint="Name a mission with --mission ID, or add --all for the whole fleet.")
        return live[0]

    def _list(self, options: dict[str, Any]) -> int:
        rows = Checkpoint.objects.order_by("-id")
        if mission := lookup.mission_id(options["mission"]):
            rows = rows.filter(missions__contains=[mission])
        listed = [summaries.summary(row) for row in rows[: options["number"]]]
        if options["json"]:
            self.show(listed)
        elif listed:
            output.table(listed, self.stdout)
        else:
            example = invocation.command("fleet_checkpoint", "create", "--mission", "latest")
            self.say(f"There are no checkpoints. Create one: {example}")
        return 0

    def _show(self, options: dict[str, Any]) -> int:
        data = summaries.detail(lookup.find(options["checkpoint"]))
        if options["json"]:
            self.show(data)
        else:
            output.detail(data, self.stdout)
        return 0

    def _diff(self, options: dict[str, Any]) -> int:
        difference = operations.diff(
            before=lookup.find(options["checkpoint"]),
            after=lookup.find(options["other"]) if options["other"] else None,
            mission=lookup.mission_id(options["mission"]),
        )
        if options["json"]:
            self.show(difference.as_json())
        elif difference.empty:
            self.say("Nothing has changed.")
        else:
            output.difference(difference, self.stdout)
        return 0

    def _verify(self, options: dict[str, Any]) -> int:
        reference = options["checkpoint"]
        checkpoints = [lookup.find(reference)] if reference else list(Checkpoint.objects.order_by("id"))
        damages = operations.verify(checkpoints=checkpoints)
        if options["json"]:
            self.show({"checkpoints": len(checkpoints), "damages": [asdict(damage) for damage in damages]})
        else:
            for damage in damages:
                self.stdout.write(f"{damage.message} Affected: {', '.join(damage.shared_by)}.")
            if not damages:
                self.say(f"{lines.counted(len(checkpoints), 'checkpoint')}: every byte is intact.")
        return 1 if damages else 0

    def _restore(self, options: dict[str, Any]) -> int:
        checkpoint, mission = lookup.find(options["checkpoint"]), lookup.mission_id(options["mission"])
        if options["dry_run"]:
            plan = operations.recovery_plan(checkpoint=checkpoint, mission=mission)
            if options["json"]:
                self.show({**plan.as_json(), "digest": plan.digest})
            else:
                output.recovery_plan(plan, self.stdout)
            return 0
        restored = operations.restore(
            checkpoint=checkpoint, mission=mission, can_execute=True, force=options["force"], plan=options["plan"]
        )
        if options["json"]:
            safety = restored.safety.ref if restored.safety else None
            summary = mission_json.summary(restored.mission)
            self.show(
                {"mission": summary, "checkpoint": checkpoint.ref, "safety": safety, "replaced": restored.replaced}
            )
            return 0
        self.say(f"Restored {restored.mission.ref} to {checkpoint.ref}. It {predicate(restored.mission.state)}.")
        if restored.safety is not None:
            undo = invocation.command("fleet_checkpoint", "restore", restored.safety.ref)
            self.say(f"Undo the restore: {undo}")
        if restored.replaced:
            self.say(f"Its branch before the restore is kept as {restored.replaced}.")
        if not restored.moved:
            self.say("Its branch could not be moved yet. The control loop will do it before anything starts.")
        if restored.mission.state == MissionState.PAUSED:
            self.say(f"Continue it: {invocation.command('fleet_mission', 'resume', restored.mission.ref)}")
        return 0

    def _fork(self, options: dict[str, Any]) -> int:
        forked = operations.fork(
            checkpoint=lookup.find(options["checkpoint"]),
            mission=lookup.mission_id(options["mission"]),
            sorties=options["sorties"],
            params=arguments.pairs(options["param"], option="--param"),
            edit=_read(options["edit"]) if options["edit"] else "",
            name=options["name"],
            can_execute=True,
        )
        mission = forked.mission
        if options["start"] and mission.state == MissionState.PLANNED:
            mission = missions.resume(mission=mission.id, can_execute=True)
        if options["json"]:
            rerun, dropped, stale = (list(getattr(forked, name)) for name in ("rerun", "dropped", "stale"))
            self.show({"mission": mission_json.summary(mission), "rerun": rerun, "dropped": dropped, "stale": stale})
            return 0
        self.stdout.write(mission.ref)
        self.say(f"{lines.one_line(mission.name)} {predicate(mission.state)}: {mission.origin}.")
        for keys, description in (
            (forked.rerun, "To run again"),
            (forked.dropped, "Left out, because sorties that run again had added them"),
            (forked.stale, "Kept, although their results used a changed input"),
        ):
            if keys:
                self.say(f"{description}: {output.keys(keys)}")
        if mission.state == MissionState.PLANNED:
            self.say(f"Start it: {invocation.command('fleet_mission', 'resume', mission.ref)}")
        return 0

    def _export(self, options: dict[str, Any]) -> int:
        checkpoint, path = lookup.find(options["checkpoint"]), Path(options["file"])
        mission = lookup.mission_id(options["mission"])
        try:
            with open(path, "xb", opener=storage.open_private) as file:
                exported = operations.export(
                    checkpoint=checkpoint, out=file, mission=mission, artifacts=options["artifacts"]
                )
        except FileExistsError as error:
            raise errors.Conflict(f"The file {path} exists.", hint="Name another file, or delete this one.") from error
        except (errors.FleetError, OSError) as error:
            path.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise errors.Unavailable(f"The file {path} cannot be written: {error.strerror}.") from error
            raise
        if options["json"]:
            self.show({"file": str(path), **asdict(exported)})
            return 0
        self.say(
            f"{path}: {exported.mission}, {lines.counted(exported.sorties, 'sortie')}, {lines.size(exported.bytes)}."
        )
        if exported.missing:
            self.say(f"Left out, because their bytes are missing from the store: {output.keys(exported.missing)}")
        return 0

    def _import(self, options: dict[str, Any]) -> int:
        try:
            with Path(options["file"]).open("rb") as file:
                imported = operations.import_file(
                    file=file,
                    by=None,
                    can_execute=True,
                    folder=options["folder"],
                    repository=options["repository"],
                )
        except OSError as error:
            raise errors.Invalid(f"The file {options['file']!r} cannot be read: {error.strerror}.") from error
        mission = imported.mission
        if options["json"]:
            missing = list(imported.missing)
            self.show(
                {"mission": mission_json.summary(mission), "checkpoint": imported.checkpoint.ref, "missing": missing}
            )
            return 0
        self.stdout.write(mission.ref)
        self.say(f"{lines.one_line(mission.name)} {predicate(mission.state)}: {mission.origin}.")
        if imported.missing:
            self.say(f"Left out, because their bytes are not in the file: {output.keys(imported.missing)}")
        if mission.state == MissionState.PLANNED:
            self.say(f"Start it: {invocation.command('fleet_mission', 'resume', mission.ref)}")
        return 0

    def _delete(self, options: dict[str, Any]) -> int:
        checkpoint = lookup.find(options["checkpoint"])
        operations.delete(checkpoint=checkpoint)
        if options["json"]:
            self.show({"deleted": checkpoint.ref})
        else:
            self.say(f"{checkpoint.ref} is deleted.")
        return 0

    def _prune(self, options: dict[str, Any]) -> int:
        pruned = operations.prune(now=timezone.now(), dry_run=not options["yes"])
        if options["json"]:
            refs = [checkpoint.ref for checkpoint in pruned.checkpoints]
            self.show(
                {"checkpoints": refs, "blobs": pruned.blobs, "bytes": pruned.bytes, "dry_run": not options["yes"]}
            )
            return 0
        summary = f"{lines.counted(len(pruned.checkpoints), 'checkpoint')} and {lines.counted(pruned.blobs, 'blob')}"
        if options["yes"]:
            self.say(f"Deleted {summary}. This freed {lines.size(pruned.bytes)}.")
        else:
            hint = " Add --yes to delete them." if pruned.checkpoints or pruned.blobs else ""
            self.say(f"{summary} would be deleted ({lines.size(pruned.bytes)}).{hint}")
        return 0


def _read(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise errors.Invalid(f"The file {name!r} cannot be read: {error}.") from error
