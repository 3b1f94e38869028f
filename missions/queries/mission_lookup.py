"""Finds missions and sorties by what a user types: an id, the end of one, or a key."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from fleet import errors, ids
from fleet.console import invocation
from missions.models import Mission, Sortie


def find(text: str) -> Mission:
    """The mission with this id (`msn_…`) or end of an id, or `latest`. Raises NotFound; Conflict if several match."""
    missions = Mission.objects.defer("plan").order_by("-id")
    if text == "latest":
        matches = list(missions[:1])
    elif len(text) >= 4 and not text.startswith(ids.MISSION + "_"):
        recent = Mission.objects.order_by("-id").values_list("id", flat=True)[:1_000]
        matches = list(missions.filter(id__in=[id for id in recent if ids.encode(ids.MISSION, id).endswith(text)][:2]))
    else:
        matches = list(missions.filter(id=ids.decode(ids.MISSION, text)))
    if len(matches) > 1:
        raise errors.Conflict(f"Several missions end in {text!r}.", hint="Give more characters of the id.")
    if not matches:
        raise errors.NotFound(
            f"There is no mission {text!r}.", hint=f"See: {invocation.command('fleet_mission', 'list')}"
        )
    return matches[0]


def find_sortie(mission: Mission, text: str) -> Sortie:
    """The sortie of a mission with this key or id."""
    sorties = Sortie.objects.filter(mission=mission)
    sortie = sorties.filter(key=text).first() if text.isprintable() else None
    if sortie is None and text.startswith(ids.SORTIE + "_"):
        sortie = sorties.filter(id=ids.decode(ids.SORTIE, text)).first()
    if sortie is None:
        raise errors.NotFound(
            f"{mission.name} has no sortie {text!r}.",
            hint=f"See: {invocation.command('fleet_mission', 'show', mission.ref)}",
            over_http=f"See GET /api/v1/missions/{mission.ref}/sorties.",
        )
    return sortie


def find_sorties(mission: Mission, text: str) -> list[Sortie]:
    """The sortie with this key or id; for the name of a matrix, all its members in the plan's order."""
    try:
        return [find_sortie(mission, text)]
    except errors.NotFound:
        members = Sortie.objects.filter(mission=mission, key__startswith=f"{text}[").order_by("turn", "id")
        if not text.isprintable() or not (sorties := list(members)):
            raise
        return sorties


def keys(sorties: Collection[UUID]) -> dict[UUID, str]:
    """The keys of these sorties, as far as they still exist."""
    return dict(Sortie.objects.filter(id__in=sorties).values_list("id", "key"))
