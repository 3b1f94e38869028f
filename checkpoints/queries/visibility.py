"""Which checkpoints a caller may see. Others look exactly like missing ones (404)."""

from __future__ import annotations

from uuid import UUID

from django.db.models import Q, QuerySet

from checkpoints.models import Checkpoint
from fleet import errors, ids
from fleet.access.actor import Actor
from fleet.access.rules import Visibility
from missions.models import Mission
from missions.queries import visibility as mission_visibility


def checkpoints(actor: Actor, action: str = "checkpoints.read") -> QuerySet[Checkpoint]:
    """The checkpoints on which a caller may perform an action.

    Admins: all. Users: the checkpoints of their own missions, and for reading also of their teams' missions, by the
    owner and team in the row. Only admins see checkpoints of several missions.
    """
    rows = Checkpoint.objects.order_by("-id")
    visibility = actor.visibility(action)
    if visibility is Visibility.ALL:
        return rows
    if actor.user is None:
        return rows.none()
    visible = Q(owner=actor.user)
    if visibility is Visibility.TEAMS and (teams := actor.team_ids()):
        visible |= Q(team__in=teams)
    return rows.filter(visible, missions__len=1)


def checkpoint(actor: Actor, ref: str, action: str = "checkpoints.read") -> Checkpoint:
    """The checkpoint with this id (`chk_…`).

    Raises NotFound if the caller cannot see it, Forbidden if the caller may see it but not do this.
    """
    row = checkpoints(actor).filter(id=ids.decode(ids.CHECKPOINT, ref)).first()
    if row is None:
        raise errors.NotFound(f"There is no checkpoint {ref}.")
    if actor.visibility(action) is Visibility.OWN and (actor.user is None or row.owner_id != actor.user.id):
        raise errors.Forbidden(
            "Only the user who launched this checkpoint's mission, or an admin, may do this.", hint="Ask one of them."
        )
    return row


def mission_of(checkpoint: Checkpoint, ref: str | None) -> UUID:
    """The mission of a checkpoint with this id; without an id, its only one. Raises Invalid if it has several."""
    if ref is None:
        if len(checkpoint.missions) != 1:
            raise errors.Invalid(
                f"{checkpoint.ref} contains {len(checkpoint.missions)} missions.",
                hint="Name one as `mission`; see `missions` of the checkpoint.",
                pointer="/mission",
            )
        return checkpoint.missions[0]
    mission = ids.decode(ids.MISSION, ref)
    if mission not in checkpoint.missions:
        raise errors.NotFound(f"{checkpoint.ref} does not contain the mission {ref}.")
    return mission


def check_rows(actor: Actor, mission: UUID, action: str = "missions.read") -> None:
    """Check the caller's access to a checkpoint's mission if it has rows; the errors are those of a mission.

    The mission may have another owner or team than when the checkpoint was written.
    """
    if Mission.objects.filter(id=mission).exists():
        mission_visibility.mission(actor, ids.encode(ids.MISSION, mission), action)
