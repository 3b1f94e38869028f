"""Make recovery plans, and refuse a restore if its risks were not accepted."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from agents import discovery
from agents import queries as agents
from agents.models import AgentType
from checkpoints.document.manifest import FORMAT
from checkpoints.files import loading
from checkpoints.files.loading import SavedMission
from checkpoints.models import Checkpoint
from checkpoints.recovery.plan import RecoveryPlan, make_plan
from checkpoints.recovery.risks import Level, RecoveryFacts
from checkpoints.recovery.sorties import LiveSortie, ParsedSortie
from checkpoints.rows import reading, workspaces
from checkpoints.rows.reading import CurrentMission
from fleet import errors
from fleet.postgres import clock, locks
from fleet.postgres.locks import Lock
from missions.artifacts import collection
from missions.models import Mission
from missions.states import MissionState


def recovery_plan(*, checkpoint: Checkpoint, mission: UUID | None = None) -> RecoveryPlan:
    """What a restore of this checkpoint would do now. Changes nothing. Raises CheckpointDamaged as a restore does."""
    with locks.session(Lock.CHECKPOINTS, shared=True):
        saved = loading.load_intact(checkpoint, mission)
        with reading.snapshot():
            exists = Mission.objects.filter(id=saved.id).exists()
            current = reading.mission(saved.id) if exists else None
        return plan_for(checkpoint, saved, current)


def plan_for(checkpoint: Checkpoint, saved: SavedMission, current: CurrentMission | None) -> RecoveryPlan:
    """The plan for a saved mission and its rows as already read. `current` is None if the rows are gone."""
    current_sorties = None
    if current is not None:
        current_sorties = {key: LiveSortie(line, current.rows[key].state) for key, line in current.state_lines.items()}
    mission_state = saved.mission_state
    saved_sorties = {key: ParsedSortie.parse(line, saved.kept[key]) for key, line in saved.state.items()}
    agent_types = dict(AgentType.objects.values_list("name", "enabled"))
    digests = {digest for sortie in saved_sorties.values() for digest in sortie.artifacts}
    return make_plan(
        checkpoint=checkpoint.ref,
        mission=saved.entry.id,
        saved_state=mission_state["state"],
        saved=saved_sorties,
        current=current_sorties,
        facts=RecoveryFacts(
            agent_types=agent_types.keys(),
            disabled_types={name for name, enabled in agent_types.items() if not enabled},
            served_types=agents.served_types(),
            callables=discovery.names(),
            missing_artifacts={digest for digest in digests if not collection.has(digest)},
            folder_exists=not mission_state["folder"] or Path(mission_state["folder"]).is_dir(),
            cancelling=current is not None and current.state == MissionState.CANCELLING,
            workspace=workspaces.facts(saved) if saved.has_workspace else None,
        ),
        format=FORMAT,  # the only one that can be read
        bytes=sum(part.bytes for part in saved.entry.parts),
        age_s=(clock.now() - checkpoint.created_at).total_seconds(),
    )


def require_acceptable(plan: RecoveryPlan, *, force: bool, digest: str = "") -> None:
    """Raise Conflict if the plan is not the one with this digest, or has a risk that was not accepted with `force`."""
    if digest and plan.digest != digest:
        raise errors.Conflict(
            f"The mission has changed: the plan is now {plan.digest}, not {digest}.",
            hint="Review the new plan (--dry-run), then apply it with --plan.",
            over_http="Read the plan again, then send its digest.",
        )
    for risk in plan.risks:
        if risk.level is Level.BLOCKING:
            raise errors.Conflict(risk.message, hint=risk.mitigation)
    high = [risk for risk in plan.risks if risk.level is Level.HIGH]
    if high and not force:
        mitigation = " ".join(risk.mitigation for risk in high)
        raise errors.Conflict(
            " ".join(risk.message for risk in high),
            hint=f"{mitigation} Or accept the risk with --force.",
            over_http=f'{mitigation} Or accept the risk with "force": true.',
        )
