"""Find checkpoints and their missions by what a person types, and missions that exist only in checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from checkpoints.files import loading, storage
from checkpoints.models import Checkpoint
from fleet import errors, ids
from fleet.console import invocation
from missions.models import Mission
from missions.queries import mission_lookup
from missions.states import MissionState

MAX_LISTED = 5  # checkpoints in the message about an ambiguous name


def mission_id(reference: str | None) -> UUID | None:
    """The id of a mission, or None without a reference. A mission without rows must be named by its full id."""
    if not reference:
        return None
    return (
        ids.decode(ids.MISSION, reference)
        if reference.startswith(f"{ids.MISSION}_")
        else mission_lookup.find(reference).id
    )


def captured_missions() -> frozenset[UUID]:
    """The missions that have checkpoints."""
    lists = Checkpoint.objects.values_list("missions", flat=True)
    return frozenset(mission for missions in lists.iterator() for mission in missions)


def missions_without_rows() -> list[UUID]:
    """The missions that have checkpoints and no rows."""
    captured = captured_missions()
    return sorted(captured - set(Mission.objects.filter(id__in=captured).values_list("id", flat=True)))


@dataclass(frozen=True, slots=True, kw_only=True)
class LostMission:
    """A mission without rows that is live in its newest intact checkpoint."""

    id: UUID
    checkpoint: Checkpoint
    state: MissionState  # in the checkpoint


def lost_missions() -> list[LostMission]:
    """All lost missions, except those whose newest checkpoint was taken because they were to be cancelled."""
    lost = []
    for mission in missions_without_rows():
        checkpoint = loading.newest_intact(mission=mission)
        if checkpoint is None or checkpoint.trigger == Checkpoint.Trigger.CANCEL:
            continue
        state = MissionState(loading.mission_entry(storage.read_manifest(checkpoint.ref), mission).state)
        if not state.final:
            lost.append(LostMission(id=mission, checkpoint=checkpoint, state=state))
    return lost


def find(reference: str) -> Checkpoint:
    """Find a checkpoint by its id (`chk_…`), the end of its id, its name or `latest`.

    Raises NotFound if there is none, Conflict with their ids if there are several.
    """
    checkpoints = Checkpoint.objects.order_by("-id")
    if reference == "latest":
        matches = list(checkpoints[:1])
    elif reference.startswith(f"{ids.CHECKPOINT}_"):
        matches = list(checkpoints.filter(id=ids.decode(ids.CHECKPOINT, reference)))
    else:
        matches = list(checkpoints.filter(name=reference)[: MAX_LISTED + 1])
        if not matches and len(reference) >= 4:
            recent = checkpoints.values_list("id", flat=True)[:1_000]
            matching = [id for id in recent if ids.encode(ids.CHECKPOINT, id).endswith(reference)]
            matches = list(checkpoints.filter(id__in=matching[: MAX_LISTED + 1]))
    if not matches:
        raise errors.NotFound(
            f"There is no checkpoint {reference!r}.",
            hint=f"List them: {invocation.command('fleet_checkpoint', 'list')}",
        )
    if len(matches) > 1:
        listed = ", ".join(f"{row.ref} of {_missions(row)}" for row in matches[:MAX_LISTED])
        more = " and others" if len(matches) > MAX_LISTED else ""
        raise errors.Conflict(f"Several checkpoints match {reference!r}: {listed}{more}.", hint="Use the id instead.")
    return matches[0]


def _missions(row: Checkpoint) -> str:
    return ids.encode(ids.MISSION, row.missions[0]) if len(row.missions) == 1 else f"{len(row.missions)} missions"
