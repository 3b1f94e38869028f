"""Which missions, sorties and artifacts a caller may see. Objects outside that look exactly like missing ones (404)."""

from __future__ import annotations

from uuid import UUID

from django.db.models import Exists, OuterRef, Q, QuerySet

from fleet import errors, ids
from fleet.access.actor import Actor
from fleet.access.models import Role
from fleet.access.rules import Visibility
from missions import attempt_tokens
from missions.models import Artifact, Mission, Sortie
from missions.states import SortieState


def missions(actor: Actor, action: str = "missions.read") -> QuerySet[Mission]:
    """The missions on which a caller may perform an action.

    Admins: all. Users: their own and, for reading, their teams'. Agents: also those for which they run a sortie. The
    workload of an attempt: its own mission; StaleLease if the attempt is no longer the running one.
    """
    all_missions = Mission.objects.defer("plan")
    visibility = actor.visibility(action)
    if visibility is Visibility.ALL:
        return all_missions
    if visibility is Visibility.MISSION:
        return all_missions.filter(id=attempt_tokens.mission(actor.lease))
    if actor.user is None:
        return all_missions.none()
    own = Q(created_by=actor.user)
    if visibility is Visibility.OWN:
        return all_missions.filter(own)
    if visibility is not Visibility.TEAMS:
        return all_missions.none()
    teams = actor.team_ids()
    visible = own | Q(team__in=teams) if teams else own
    if actor.role == Role.AGENT:
        running = Sortie.objects.filter(mission=OuterRef("id"), state=SortieState.RUNNING, agent__by=actor.user)
        visible |= Q(Exists(running))
    return all_missions.filter(visible)


def mission(actor: Actor, ref: str, action: str = "missions.read") -> Mission:
    """The mission with this id (`msn_…`). NotFound if the caller cannot see it; Forbidden if it can only see it."""
    return _allowed(actor, ids.decode(ids.MISSION, ref), action, missing=f"There is no mission {ref}.")


def _allowed(actor: Actor, id: UUID, action: str, *, missing: str) -> Mission:
    """The mission with this id. Raises NotFound with the message `missing`; Forbidden as in `mission`."""
    mission = next(iter(missions(actor).filter(id=id).order_by()), None)
    if mission is None:
        raise errors.NotFound(missing)
    if actor.visibility(action) is Visibility.OWN and (actor.user is None or mission.created_by_id != actor.user.id):
        raise errors.Forbidden(
            "Only the user who launched this mission, or an admin, may do this.", hint="Ask one of them."
        )
    if actor.user is not None and mission.created_by_id == actor.user.id:
        mission.created_by = actor.user  # saves the query for the user's name
    return mission


def sortie(actor: Actor, ref: str, action: str = "sorties.read") -> Sortie:
    """The sortie with this id (`srt_…`); errors as for `mission`."""
    missing = f"There is no sortie {ref}."
    row = next(iter(Sortie.objects.filter(id=ids.decode(ids.SORTIE, ref)).order_by()), None)
    if row is None:
        raise errors.NotFound(missing)
    row.mission = _allowed(actor, row.mission_id, action, missing=missing)
    return row


def artifact(actor: Actor, ref: str) -> Artifact:
    """The artifact with this id. Raises NotFound if the caller cannot see its mission."""
    row = Artifact.objects.select_related("sortie").filter(id=ids.decode(ids.ARTIFACT, ref)).first()
    if row is None or not missions(actor).filter(id=row.sortie.mission_id).exists():
        raise errors.NotFound(f"There is no artifact {ref}.")
    return row
