"""Which missions and sorties a caller reaches. Of what it does not reach it is not told that it is there."""

from __future__ import annotations

from uuid import UUID

from django.db.models import Exists, OuterRef, Q, QuerySet

from fleet import errors, ids
from fleet.access.actor import Actor
from fleet.access.models import Role
from fleet.access.rules import Reach
from missions import attempt_tokens
from missions.models import Artifact, Mission, Sortie


def missions(who: Actor, action: str = "missions.read") -> QuerySet[Mission]:
    """Admins: all. Users: their own and, where the action is to see, their teams'. Agents: those that they fly for. The work
    of an attempt: its own one; StaleLease where the attempt is not the running one any more."""
    everything = Mission.objects.defer("plan")
    reach = who.reach(action)
    if reach is Reach.ALL:
        return everything
    if reach is Reach.FLOWN:
        return everything.filter(id=attempt_tokens.mission(who.lease))
    if who.user is None:
        return everything.none()
    own = Q(created_by=who.user)
    if reach is Reach.OWN:
        return everything.filter(own)
    if reach is not Reach.SEEN:
        return everything.none()
    teams = who.in_teams()
    seen = own | Q(team__in=teams) if teams else own
    if who.role == Role.AGENT:
        flown = Sortie.objects.filter(mission=OuterRef("id"), state="running", agent__by=who.user)
        seen |= Q(Exists(flown))
    return everything.filter(seen)


def mission(who: Actor, ref: str, action: str = "missions.read") -> Mission:
    """The mission of an id (`msn_…`). NotFound where it is not seen, Forbidden where it is seen and this is not allowed."""
    return _allowed(who, ids.decode(ids.MISSION, ref), action, missing=f"There is no mission {ref}.")


def _allowed(who: Actor, named: UUID | None, action: str, *, missing: str) -> Mission:
    found = next(iter(missions(who).filter(id=named).order_by()), None) if named else None
    if found is None:
        raise errors.NotFound(missing)
    if who.reach(action) is Reach.OWN and (who.user is None or found.created_by_id != who.user.id):
        raise errors.Forbidden("Only who launched this mission may do that, or an admin.", hint="Ask them.")
    if who.user is not None and found.created_by_id == who.user.id:
        found.created_by = who.user  # or it is read again, to be named
    return found


def sortie(who: Actor, ref: str, action: str = "sorties.read") -> Sortie:
    """The sortie of an id (`srt_…`), by the rules of its mission."""
    named = ids.decode(ids.SORTIE, ref)
    found = next(iter(Sortie.objects.filter(id=named).order_by()), None) or Sortie()
    found.mission = _allowed(who, found.mission_id, action, missing=f"There is no sortie {ref}.")
    return found


def artifact(who: Actor, ref: str) -> Artifact:
    """A file that an attempt gave out, by the rules of its mission."""
    found = Artifact.objects.select_related("sortie").filter(id=ids.decode(ids.ARTIFACT, ref)).first()
    if found is None or not missions(who).filter(id=found.sortie.mission_id).exists():
        raise errors.NotFound(f"There is no artifact {ref}.")
    return found
