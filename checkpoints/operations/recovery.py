"""Make recovery plans, and refuse a restore whose risks were not accepted."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from agents import discovery
from agents import queries as agents
from agents.models import AgentType
from checkpoints import loading, planning, reading
from checkpoints.loading import SavedMission
from checkpoints.models import Checkpoint
from checkpoints.planning import Facts, Level, RecoveryPlan, Sortie
from checkpoints.reading import MissionText
from fleet import errors
from fleet.postgres import clock, locks
from fleet.postgres.locks import Lock
from missions.artifacts import collection
from missions.models import Mission
from missions.states import MissionState


def recovery_plan(*, checkpoint: Checkpoint, mission: UUID | None = None) -> RecoveryPlan:
    """What a restore of this checkpoint would do now. Changes nothing; Damaged as for a restore."""
    with locks.session(Lock.CHECKPOINTS, shared=True):
        saved = loading.load_intact(checkpoint, mission)
        with reading.snapshot():
            exists = Mission.objects.filter(id=saved.id).exists()
            text = reading.mission(saved.id) if exists else None
        return plan_for(checkpoint, saved, text)


def plan_for(checkpoint: Checkpoint, saved: SavedMission, text: MissionText | None) -> RecoveryPlan:
    """The plan for a checkpoint and the mission's rows (None: they are gone), both read."""
    current = None
    if text is not None:
        current = {
            key: Sortie.parse(line, bucket.kept[key])
            for bucket in text.buckets.values()
            for key, line in bucket.state.items()
        }
    own = saved.own_state
    sorties = {key: Sortie.parse(line, saved.kept[key]) for key, line in saved.state.items()}
    digests = {digest for sortie in sorties.values() for digest in sortie.artifacts}
    return planning.plan(
        checkpoint=checkpoint.ref,
        mission=saved.entry.id,
        final_state=own["state"],
        saved=sorties,
        current=current,
        facts=Facts(
            agent_types=set(AgentType.objects.values_list("name", flat=True)),
            served_types=agents.served_types(),
            callables=discovery.names(),
            missing_artifacts={digest for digest in digests if not collection.has(digest)},
            folder_exists=not own["folder"] or Path(own["folder"]).is_dir(),
            cancelling=text is not None and text.state == MissionState.CANCELLING,
        ),
        bytes=sum(part.bytes for part in saved.entry.parts),
        age_s=(clock.now() - checkpoint.created_at).total_seconds(),
    )


def require_acceptable(plan: RecoveryPlan, *, force: bool, digest: str = "") -> None:
    """Conflict if the plan is not the one with this digest, or has a risk that was not accepted with `force`."""
    if digest and plan.digest != digest:
        raise errors.Conflict(
            f"The mission has changed: the plan is now {plan.digest}, and not {digest}.",
            hint="Look at the new plan (--dry-run), then apply that one.",
            over_http="Read the plan again, then send its digest.",
        )
    for risk in plan.risks:
        if risk.level is Level.BLOCKING:
            raise errors.Conflict(risk.message, hint=risk.mitigation)
    high = [risk for risk in plan.risks if risk.level is Level.HIGH]
    if high and not force:
        raise errors.Conflict(
            " ".join(risk.message for risk in high),
            hint=" ".join(risk.mitigation for risk in high) + " Or accept it with --force.",
            over_http=" ".join(risk.mitigation for risk in high) + ' Or accept it with "force": true.',
        )
