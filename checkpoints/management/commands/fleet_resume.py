"""`manage.py fleet_resume`: continue missions after a crash, a restore or a lost database."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from checkpoints import operations
from checkpoints.files import loading
from checkpoints.management import output
from checkpoints.models import Checkpoint
from checkpoints.queries import lookup
from checkpoints.queries.lookup import LostMission
from fleet import errors, ids
from fleet.console import invocation, lines
from fleet.management.operator import OperatorCommand
from missions import operations as missions
from missions.models import Mission
from missions.queries import mission_json
from missions.states import FINAL_MISSION_STATES, MissionState


class Command(OperatorCommand):
    help = (
        "Continue missions. With --mission, a mission continues from its rows, or from its newest intact checkpoint if "
        "its rows are gone. Only with CHECKPOINT does a mission go back to an earlier state. Without arguments, recover all "
        "missions that have no rows and were live in their newest intact checkpoint; those that were paused or planned "
        "stay paused."
    )

    failed = False  # whether a mission could not be recovered

    def add_arguments(self, parser: ArgumentParser) -> None:
        source = parser.add_mutually_exclusive_group()
        source.add_argument("checkpoint", nargs="?", help="restore this checkpoint first: its id, name, or `latest`")
        source.add_argument(
            "--checkpoint", dest="checkpoint_option", metavar="CHECKPOINT", help="same as the positional argument"
        )
        parser.add_argument("--mission", help="its id, the end of its id, or `latest`")
        parser.add_argument("--dry-run", action="store_true", help="only print what would happen")
        parser.add_argument("--force", action="store_true", help="accept high risks")
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def act(self, **options: Any) -> int:
        operations.adopt()
        checkpoint = options["checkpoint"] or options["checkpoint_option"]
        mission = lookup.mission_id(options["mission"])
        if checkpoint:
            steps = [self._from_checkpoint(lookup.find(checkpoint), mission, options)]
        elif mission:
            steps = [self._from_rows(mission, options)]
        else:
            steps = [self._try_recover(lost, options) for lost in lookup.lost_missions()]
            if not steps:
                steps = [
                    _describe(row) for row in Mission.objects.exclude(state__in=FINAL_MISSION_STATES).order_by("id")
                ]
        if options["json"]:
            self.show({"missions": steps, "dry_run": options["dry_run"]})
        else:
            for step in steps:
                self.say(f"{step['mission']} {step['happens']}")
            if not steps:
                self.say("No mission was interrupted.")
        return 1 if self.failed else 0

    def _from_checkpoint(
        self, checkpoint: Checkpoint, mission: UUID | None, options: dict[str, Any], *, start: bool = True
    ) -> dict[str, str]:
        """Restore a checkpoint. The mission continues afterwards if it had not ended and `start` is set."""
        plan = operations.recovery_plan(checkpoint=checkpoint, mission=mission)
        if options["dry_run"]:
            if not options["json"]:
                output.recovery_plan(plan, self.stdout)
            afterwards = "continue" if start and plan.state == MissionState.PAUSED else f"be {plan.state}"
            return {"mission": plan.mission, "happens": f"would be restored to {checkpoint.ref} and {afterwards}."}
        restored = operations.restore(
            checkpoint=checkpoint, mission=mission, can_execute=True, force=options["force"], plan=plan.digest
        )
        row = restored.mission
        happens = f"was restored to {checkpoint.ref} and"
        if row.state != MissionState.PAUSED:
            return {"mission": row.ref, "happens": f"{happens} has ended ({row.state})."}
        if not start:
            command = invocation.command("fleet_resume", "--mission", row.ref)
            return {"mission": row.ref, "happens": f"{happens} is paused. Continue it: {command}"}
        missions.resume(mission=row.id, can_execute=True)
        return {"mission": row.ref, "happens": f"{happens} continues."}

    def _try_recover(self, lost: LostMission, options: dict[str, Any]) -> dict[str, str]:
        """Bring back a mission, which continues if it was running. Reports an error instead of raising it."""
        try:
            start = lost.state == MissionState.RUNNING
            return self._from_checkpoint(lost.checkpoint, lost.id, options, start=start)
        except errors.FleetError as error:
            self.failed = True
            return {"mission": ids.encode(ids.MISSION, lost.id), "happens": f"could not be recovered. {error}"}

    def _from_rows(self, mission: UUID, options: dict[str, Any]) -> dict[str, str]:
        row = Mission.objects.filter(id=mission).first()
        if row is None:
            checkpoint = loading.newest_intact(mission=mission)
            if checkpoint is None:
                raise errors.NotFound(
                    f"The mission {ids.encode(ids.MISSION, mission)} has neither rows nor an intact checkpoint.",
                    hint=f"See: {invocation.command('fleet_checkpoint', 'list')}",
                )
            return self._from_checkpoint(checkpoint, mission, options)
        if row.state in (MissionState.PAUSED, MissionState.PLANNED):
            if not options["dry_run"]:
                missions.resume(mission=row.id, can_execute=True)
            return {"mission": row.ref, "happens": "would continue." if options["dry_run"] else "continues."}
        return _describe(row)


def _describe(row: Mission) -> dict[str, str]:
    """The state of a mission, and what to do about it."""
    if row.state == MissionState.RUNNING:
        counts = mission_json.counts([row.id]).get(row.id, {})
        running = lines.counted(counts.get("running", 0), "sortie")
        happens = f"runs, with {running} running. Sorties of lost agents start again by themselves."
    elif row.state == MissionState.CANCELLING:
        happens = "is being cancelled."
    elif row.state in FINAL_MISSION_STATES:
        happens = f"has ended ({row.state}). Retry it: {invocation.command('fleet_mission', 'retry', row.ref)}"
    else:
        happens = f"is {row.state}. Continue it: {invocation.command('fleet_resume', '--mission', row.ref)}"
    return {"mission": row.ref, "happens": happens}
